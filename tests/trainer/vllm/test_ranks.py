"""Two ranks that share one server train what one process trains: ahead, with tools, and with a loop of their own."""

import socket
from pathlib import Path

import pytest
import torch

RANK = Path(__file__).parent / "rank.py"
IMAGES = [2, 1, 0, 0, 3, 1, 0, 2]


@pytest.fixture(scope="module")
def runs(fork, model_dir, rows_in, tmp_path_factory):
    """What one process saw and trained, and what two ranks did."""
    folder = tmp_path_factory.mktemp("ranks")
    data = rows_in(folder, IMAGES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for name, ranks in (("alone", 1), ("both", 2)):
        for rank in range(ranks):
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            place |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
            arguments = (str(model_dir), str(data), str(8 // ranks), str(folder / f"{name}-{rank}.pt"))
            started.append(fork(*arguments, script=RANK, environment=place if ranks > 1 else {}))
    for process in started:
        done = process.wait()
        assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{name}.pt") for name in ("alone-0", "both-0", "both-1")]


def check_alike(alone, first, second):
    """Both ranks together saw the rows and the completions of one process, and trained the same weights."""
    assert [*zip(first["rows"], second["rows"], strict=True)] == [(rows[:2], rows[2:]) for rows in alone["rows"]]
    for what in ("ids", "images"):
        assert [a + b for a, b in zip(first[what], second[what], strict=True)] == alone[what]
    moved = max(float((value - alone["before"][name]).abs().max()) for name, value in alone["after"].items())
    assert moved > 0
    for name, value in alone["after"].items():
        assert (value - first["after"][name]).abs().max() < 1e-3 * moved, name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_train_ahead_what_one_process_trains(runs):
    """Rank 0 asks for both and sends the weights; every rank gets its own completions, tagged with their weights."""
    alone, first, second = (run["ahead"] for run in runs)
    assert alone["versions"] == first["versions"] == second["versions"] == [0, 0, 1, 2]
    assert (first["syncs"], second["syncs"]) == (3, 0), "one rank sends the weights"
    check_alike(alone, first, second)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rank_whose_rollouts_have_ended_asks_for_the_turns_of_the_others(runs):
    alone, first, second = (run["tools"] for run in runs)
    assert (first["images"][0], second["images"][0]) == ([0] * 4, [2] * 4), "only prompts without images paint"
    check_alike(alone, first, second)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_train_on_the_images_of_a_loop_of_their_own(runs):
    alone, first, second = (run["own loop"] for run in runs)
    assert (first["images"][0], second["images"][1]) == ([0, 2, 0, 1], [0, 0, 0, 2])
    assert (first["syncs"], second["syncs"]) == (2, 0), "the function is called when the server has the new weights"
    check_alike(alone, first, second)
