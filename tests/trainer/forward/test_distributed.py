"""The shared pass inside DDP and FSDP2 on two real processes, one of which has no image in its batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODES = ("ddp", "ddp-checkpointing", "fsdp2", "fsdp2-checkpointing")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_gradients_of_two_ranks_equal_one_process():
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "ranks.py", here / "helpers.py", *MODES],
        capture_output=True,
        text=True,
        timeout=450,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [result["mode"] for result in results] == list(MODES)
    for result in results:
        assert result["error"] < 1e-5, result
        assert result["parameters"] > 40
