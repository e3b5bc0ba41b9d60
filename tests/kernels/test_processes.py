"""Threads and forked processes."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from triptych_kernels import MergePlan, merge

FORK_AFTER_PARALLEL = """
import os, sys, torch
from triptych_kernels import MergePlan, merge
torch.set_num_threads(4)
plan = MergePlan.from_spans((2048,), [(0, 0, 2048, 0)], num_features=2048)
embeds, features = torch.zeros(2048, 256), torch.ones(2048, 256)
out = torch.empty_like(embeds)
merge(embeds, features, plan, out=out)  # opens a parallel region in the parent
out.zero_()
child = os.fork()
if child == 0:
    merge(embeds, features, plan, out=out)  # would wait for threads that the fork did not copy
    os._exit(0 if out[0, 0].item() == out[-1, -1].item() == 1.0 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_wait_for_lost_threads() -> None:
    """torch's own ops hang here; the kernels notice the fork and use one thread."""
    process = subprocess.Popen([sys.executable, "-c", FORK_AFTER_PARALLEL], start_new_session=True)
    try:
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class MergedRows(Dataset):
    """Builds plans and merges in a worker process, as a collator may."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, item: int) -> torch.Tensor:
        plan = MergePlan.from_spans((512,), [(0, item, 256, 0)], num_features=256)
        return merge(torch.zeros(512, 256), torch.full((256, 256), 1.0 + item), plan)


@pytest.mark.slow
def test_data_loader_workers() -> None:
    merge(
        torch.zeros(2048, 256),
        torch.ones(1, 256),
        MergePlan.from_spans((2048,), [(0, 0, 1, 0)], num_features=1),
    )
    loader = DataLoader(MergedRows(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    sums = [float(rows.sum()) for rows in loader]
    assert sums == [256 * 256 * (1.0 + item) for item in range(4)]
