"""A computation in a process of its own gives its result or says why it has none."""

import os
import signal
import time

import pytest
import torch
from triptych_trainer.forecast.apart import ApartError, computed_apart


def test_the_result_comes_back_and_nothing_else_changes(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    values = torch.ones(200, 200)
    _ = values @ values  # the pool of threads that a fork does not have

    def work():
        values.zero_()
        return float((torch.ones(200, 200) @ torch.ones(200, 200))[0, 0]), os.environ["TOKENIZERS_PARALLELISM"]

    assert computed_apart(work) == (200.0, "false")
    assert values[0, 0] == 1
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def fails():
    raise ValueError("no such\nshape")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "seconds", "said"),
    [
        (fails, 60, "ValueError: no such shape"),
        (dies, 60, "its process ended with code -9"),
        (lambda: time.sleep(60), 0.1, "it took more than 0.1 seconds"),
    ],
)
def test_without_a_result_it_says_why_at_once(work, seconds, said):
    started = time.monotonic()
    with pytest.raises(ApartError, match=said):
        computed_apart(work, timeout_seconds=seconds)
    assert time.monotonic() - started < 30
