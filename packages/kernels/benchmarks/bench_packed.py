"""Products of a few rows with a matrix in blocks, against torch's own; the limit is one read of the matrix."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from triptych_kernels import PackedMatrix

SHAPES = [(32768, 384), (1056, 384), (384, 1056), (384, 384)]


def onednn(weight_OI: torch.Tensor, input: torch.Tensor) -> Callable[[], torch.Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI, len(input))
    return lambda: torch.ops.mkldnn._linear_pointwise(input, packed, None, "none", [], "")


def in_blocks(weight_OI: torch.Tensor, input: torch.Tensor) -> Callable[[], torch.Tensor]:
    packed = PackedMatrix.of(weight_OI)
    return lambda: packed.product(input)


WAYS = {
    "triptych": in_blocks,
    "linear": lambda weight_OI, input: lambda: F.linear(input, weight_OI),
    "onednn_packed": onednn,
    "read_once": lambda weight_OI, input: lambda: weight_OI.sum(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 8, 64])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_product(benchmark: BenchmarkFixture, shape: tuple[int, int], rows: int, way: str) -> None:
    weight_OI, input = torch.randn(shape), torch.randn(rows, shape[1])
    benchmark.group = f"packed {shape[0]}x{shape[1]}, {rows} rows"
    benchmark.extra_info["bytes"] = weight_OI.nbytes
    found = benchmark(WAYS[way](weight_OI, input))
    if way != "read_once":
        torch.testing.assert_close(found, F.linear(input, weight_OI), rtol=1e-4, atol=1e-3)
