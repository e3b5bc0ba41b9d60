"""Ranks that share weights compare the model with itself by one forward, and decide together."""

import json
import socket
from pathlib import Path

import pytest

FAMILIES = ("qwen2_5_vl", "internvl")
"""The second one's stock forward leaves the positions to the backbone."""


@pytest.fixture(scope="module")
def ranks(fork):
    """What each of the two ranks prints of each family."""
    here = Path(__file__).parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    families = str(here.parent / "families" / "conftest.py")
    started = [
        fork(families, *FAMILIES, script=here / "ranks.py", environment={**place, "RANK": str(rank)})
        for rank in range(2)
    ]
    for rank in started:
        assert rank.wait().returncode == 0, rank.stderr[-3000:]
    return [[json.loads(line) for line in rank.stdout.splitlines() if line.startswith("{")] for rank in started]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("k", range(len(FAMILIES)), ids=FAMILIES)
def test_shared_weights_cost_one_forward_of_two_rows_on_each_rank(ranks, k):
    for found in (rank[k] for rank in ranks):
        assert found["name"] == FAMILIES[k]
        few = [number for number in found["verify"] if number == 8]
        forwarded = [number for number in found["verify"] if number != 8]
        assert forwarded[1::2] == found["lengths"], "the backbone once for each row"
        assert len(forwarded) == 4, "the tower once for each row"
        assert len(few) == (4 if FAMILIES[k] == "internvl" else 0), "eight tokens with and without positions"
        assert set(found["sampling"]) == {2}, "one token of each row: the prompts were prefilled by the run"
    assert len({json.dumps(rank[k]["sampling"]) for rank in ranks}) == 1, "in step"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("k", range(len(FAMILIES)), ids=FAMILIES)
def test_all_ranks_prefill_once_more_where_one_rank_s_prefill_has_other_prompts(ranks, k):
    for found in (rank[k] for rank in ranks):
        assert max(found["sampling without the rows"]) > 2
        assert found["sampling without the rows"][-len(found["sampling"]) :] == found["sampling"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("k", range(len(FAMILIES)), ids=FAMILIES)
def test_a_difference_on_one_rank_ends_the_run_on_both_in_the_same_sentence(ranks, k):
    said = {rank[k]["wrong"] for rank in ranks}
    assert len(said) == 1
    assert "differ from its own forward by" in said.pop()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("k", range(len(FAMILIES)), ids=FAMILIES)
def test_images_of_one_rank_are_compared_on_both(ranks, k):
    found = [rank[k]["out of step"] for rank in ranks]
    assert found[0] == found[1]
    assert found[0][0] == [3, 0]
