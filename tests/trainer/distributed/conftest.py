"""Rows for the ranks of a training."""

from collections.abc import Callable
from pathlib import Path

import pytest

# Two ranks take two prompts each: in the first generation the second rank has no image, in the second the first.
IMAGES = [2, 1, 0, 0, 0, 0, 1, 5]


@pytest.fixture(scope="module")
def rows(rows_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_in(tmp_path_factory.mktemp("rows"), IMAGES)
