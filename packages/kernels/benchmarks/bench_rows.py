"""The norm of the few rows of a decoding step, against torch's own operations; the limit is one copy of the rows."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from triptych_kernels import row_norm


@pytest.mark.parametrize("way", ["triptych", "torch", "copy"])
@pytest.mark.parametrize("rows", [1, 8, 64])
def test_norm(benchmark: BenchmarkFixture, rows: int, way: str) -> None:
    input, weight = torch.randn(rows, 1, 384), torch.randn(384)

    def stock() -> torch.Tensor:
        wide = input.to(torch.float32)
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(torch.float32)

    ways = {"triptych": lambda: row_norm(input, weight, epsilon=1e-6), "torch": stock, "copy": input.clone}
    benchmark.group = f"norm of {rows} rows of 384"
    found = benchmark(ways[way])
    if way != "copy":
        torch.testing.assert_close(found, stock())
