"""Threads and forked processes."""

import os
import signal
import time
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from triptych_kernels import MergePlan, merge

NUM_TOKENS, NUM_COLUMNS = 2048, 256
"""2 MiB: enough rows for every thread."""


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def exit_status(child: int, *, timeout_seconds: float) -> int | None:
    """The child's exit code, or None where it does not end in time; it is killed then."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def test_a_forked_child_does_not_wait_for_lost_threads(four_threads: None) -> None:
    """torch's own ops hang here; the kernels notice the fork and use one thread."""
    plan = MergePlan.from_images((1, NUM_TOKENS), [(0, 0, [(0, NUM_TOKENS)])], features_per_image=[NUM_TOKENS])
    embeds_BTD, features_ND = torch.zeros(1, NUM_TOKENS, NUM_COLUMNS), torch.ones(NUM_TOKENS, NUM_COLUMNS)
    merge(embeds_BTD, features_ND, plan)  # opens a parallel region in the parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of a fork with threads
        child = os.fork()
    if child == 0:
        merged_BTD = merge(embeds_BTD, features_ND, plan)  # would wait for threads that the fork did not copy
        os._exit(0 if merged_BTD[0, 0, 0].item() == merged_BTD[0, -1, -1].item() == 1.0 else 3)
    assert exit_status(child, timeout_seconds=30) == 0


class MergedRows(Dataset):
    """Builds plans and merges in a worker process, as a collator may."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, item: int) -> torch.Tensor:
        plan = MergePlan.from_images((1, 512), [(0, 0, [(item, 256)])], features_per_image=[256])
        return merge(torch.zeros(1, 512, 256), torch.full((256, 256), 1.0 + item), plan)


def test_data_loader_workers(four_threads: None) -> None:
    plan = MergePlan.from_images((1, NUM_TOKENS), [(0, 0, [(0, 1)])], features_per_image=[1])
    merge(torch.zeros(1, NUM_TOKENS, NUM_COLUMNS), torch.ones(1, NUM_COLUMNS), plan)
    loader = DataLoader(MergedRows(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sums = [float(rows.sum()) for rows in loader]
    assert sums == [256 * 256 * (1.0 + item) for item in range(4)]
