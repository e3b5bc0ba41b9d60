"""Batches of every kind that the ops must take: text only, images, shared features, interleaved runs."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# (shape, runs of (row, start, length, first_feature), num_features)
BATCHES: dict[str, tuple[tuple[int, ...], list[tuple[int, int, int, int]], int]] = {
    "text_only": ((2, 5), [], 0),
    "empty": ((0,), [], 0),
    "no_rows": ((0, 7), [], 0),
    "one_position": ((1,), [(0, 0, 1, 0)], 1),
    "packed": ((40,), [(0, 2, 5, 0), (0, 20, 9, 5)], 14),
    "batched": ((3, 16), [(0, 1, 4, 0), (1, 3, 2, 4), (1, 9, 7, 6)], 13),
    "shared": ((4, 12), [(0, 3, 5, 0), (1, 3, 5, 0), (2, 0, 5, 0), (3, 1, 2, 3), (3, 5, 4, 5)], 9),
    "all_image": ((2, 6), [(0, 0, 6, 0), (1, 0, 6, 0)], 6),
    "out_of_order": ((20,), [(0, 0, 4, 8), (0, 5, 8, 0), (0, 15, 1, 12)], 13),
}


@pytest.fixture(params=BATCHES)
def plan(request: pytest.FixtureRequest) -> MergePlan:
    shape, runs, num_features = BATCHES[request.param]
    return MergePlan.from_spans(shape, runs, num_features=num_features)


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=[1, 7, 64, 514], ids="D{}".format)
def num_columns(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def randn() -> Callable[..., torch.Tensor]:
    """Random tensors of one seed."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return make
