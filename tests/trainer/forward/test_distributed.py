"""The shared pass inside DDP and FSDP2 on two real processes, one of which has no image anywhere in its batch."""

import json
import socket
from pathlib import Path

import pytest

MODES = ("ddp", "ddp-checkpointing", "ddp-arrivals", "fsdp2", "fsdp2-checkpointing", "fsdp2-arrivals")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_gradients_of_two_ranks_equal_one_process(fork):
    here = Path(__file__).parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [
        fork(str(here / "helpers.py"), *MODES, script=here / "ranks.py", environment={**place, "RANK": str(rank)})
        for rank in range(2)
    ]
    for rank in ranks:
        assert rank.wait().returncode == 0, rank.stderr[-3000:]
    results = [json.loads(line) for line in ranks[0].stdout.splitlines() if line.startswith("{")]
    assert [result["mode"] for result in results] == list(MODES)
    for result in results:
        assert result["error"] < 1e-5, result
        assert result["parameters"] > 40
