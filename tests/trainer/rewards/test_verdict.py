"""The reward that says right or wrong is the chosen one, else `accuracy`, else none."""

import pytest
from triptych_trainer.rewards.verdict import verdict_of


@pytest.mark.parametrize(
    ("rewards", "chosen", "expected"),
    [
        (["format", "accuracy"], None, "accuracy"),
        (["format", "accuracy"], "format", "format"),
        (["mine"], None, None),
        (["mine"], "mine", "mine"),
    ],
)
def test_the_verdict(rewards, chosen, expected):
    assert verdict_of(rewards, chosen) == expected


def test_a_misspelt_name_lists_the_rewards():
    with pytest.raises(ValueError, match=r"--verdict mien: expected the name of a reward, one of mine, format"):
        verdict_of(["mine", "format"], "mien")
