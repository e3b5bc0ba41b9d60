"""Lets the benchmarks import the modules beside them, and picks their sizes: one small one unless they are timed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import torch
from merge_cases import Case

SMALL = [(512, 2048)]
SIZES = [*SMALL, (4096, 2048), (16384, 2048), (32768, 3584)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Rows are compared at one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    timed = not metafunc.config.getoption("benchmark_disable")
    cases = [
        Case(tokens=tokens, hidden=hidden, share=share, group=group)
        for tokens, hidden in (SIZES if timed else SMALL)
        for share in ((0.2, 0.8, 0.95) if timed else (0.8,))
        for group in (1, 8)
    ]
    metafunc.parametrize("case", cases, ids=str)
