"""The cost of a call where there is nothing to move: 4 tokens of 64 numbers."""

import pytest
import torch
from merge_cases import Batch, Case, make_batch
from merge_competitors import GROUPS, REFERENCES
from pytest_benchmark.fixture import BenchmarkFixture

TINY = Case(tokens=4, hidden=64, share=0.5)


@pytest.mark.parametrize("group", ["forward", "forward+backward"])
@pytest.mark.parametrize("row", ["triptych", "transformers_masked_scatter", "index_copy", "where_gather"])
def test_tiny_call(benchmark: BenchmarkFixture, group: str, row: str) -> None:
    if row.startswith("transformers"):
        pytest.importorskip("transformers")
    batch: Batch = make_batch(TINY)
    benchmark.group = f"tiny-call {group}"
    result = benchmark(GROUPS[group][row], batch)
    for got, expected in zip(result, REFERENCES[group](batch), strict=True):
        torch.testing.assert_close(got, expected)
