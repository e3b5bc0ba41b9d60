"""Batches of every kind that the merge must take: text only, images, shared images, images in several runs."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# shape, places (row, image, runs of (start, length)), feature rows of each image
BATCHES: dict[str, tuple[tuple[int, int], list[tuple[int, int, list[tuple[int, int]]]], list[int]]] = {
    "text_only": ((2, 5), [], []),
    "no_tokens": ((1, 0), [], []),
    "no_rows": ((0, 7), [], []),
    "one_position": ((1, 1), [(0, 0, [(0, 1)])], [1]),
    "packed": ((1, 40), [(0, 0, [(2, 5)]), (0, 1, [(20, 9)])], [5, 9]),
    "batched": ((3, 16), [(0, 0, [(1, 4)]), (1, 1, [(3, 2)]), (1, 2, [(9, 7)])], [4, 2, 7]),
    "shared": (
        (4, 12),
        [(0, 0, [(3, 5)]), (1, 0, [(3, 5)]), (2, 0, [(0, 5)]), (3, 1, [(5, 4)]), (3, 0, [(0, 3), (9, 2)])],
        [5, 4],
    ),
    "all_image": ((2, 6), [(0, 0, [(0, 6)]), (1, 0, [(0, 6)])], [6]),
    "out_of_order": ((1, 20), [(0, 1, [(0, 4)]), (0, 0, [(5, 8)]), (0, 2, [(15, 1)])], [8, 4, 1]),
}


@pytest.fixture(scope="session")
def plan_of_src() -> Callable[..., MergePlan]:
    """Plans of one row of tokens from the feature row of each token, -1 = text."""

    def make(src: list[int], *, num_features: int) -> MergePlan:
        places = [(0, feature, [(token, 1)]) for token, feature in enumerate(src) if feature >= 0]
        return MergePlan.from_images((1, len(src)), places, features_per_image=[1] * num_features)

    return make


@pytest.fixture(params=BATCHES)
def plan(request: pytest.FixtureRequest) -> MergePlan:
    shape, places, features_per_image = BATCHES[request.param]
    return MergePlan.from_images(shape, places, features_per_image=features_per_image)


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
