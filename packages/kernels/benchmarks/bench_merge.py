"""pytest-benchmark groups of the merge ops; `table.py` prints the same rows as ratios, measured round-robin."""

from functools import lru_cache

import pytest
from merge_cases import Batch, Case, make_batch
from merge_checks import check_result
from merge_competitors import GROUPS, moved_bytes
from pytest_benchmark.fixture import BenchmarkFixture

ROWS = [(group, row) for group, rows in GROUPS.items() for row in rows]


@lru_cache(maxsize=1)
def batch_of(case: Case) -> Batch:
    return make_batch(case)


@pytest.mark.slow_except("*-G8-*-triptych", "*-G8-forward-*")
@pytest.mark.parametrize(("group", "row"), ROWS, ids=["-".join(pair) for pair in ROWS])
def test_merge(benchmark: BenchmarkFixture, case: Case, group: str, row: str) -> None:
    if row.startswith("transformers"):
        pytest.importorskip("transformers")
    if row.startswith("compiled") and benchmark.disabled:
        pytest.skip("compilation takes longer than the rest together; timed on request")
    batch = batch_of(case)
    benchmark.group = f"{group} {case}"
    benchmark.extra_info["bytes"] = moved_bytes(group, batch)
    result = benchmark.pedantic(GROUPS[group][row], args=(batch,), rounds=7, warmup_rounds=1)
    if not benchmark.disabled:
        benchmark.extra_info["GB/s"] = round(moved_bytes(group, batch) / benchmark.stats.stats.median / 1e9, 2)
    check_result(group, row, result, batch)
