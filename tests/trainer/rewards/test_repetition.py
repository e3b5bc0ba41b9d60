import pytest
from triptych_trainer.rewards import repetition_reward
from triptych_trainer.rewards.repetition import repeated_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("a b c", 0.0),
        ("a b a b", 1 / 3),
        ("A b, a B!", 1 / 3),
        ("red red red red", 2 / 3),
        ("one two three four", 0.0),
        ("\u7ea2\u7ea2\u7ea2\u7ea2", 2 / 3),
    ],
)
def test_share_of_repeated_pairs(text, share):
    assert repeated_share(text, ngram=2) == pytest.approx(share)


def test_the_penalty_scales_the_share():
    assert repetition_reward(ngram=2, worst=-0.5)(["a b a b", "a b c d"]) == [pytest.approx(-1 / 6), 0.0]


def test_options_are_checked():
    with pytest.raises(ValueError, match="got ngram=0, worst=-1"):
        repetition_reward(ngram=0)
    with pytest.raises(ValueError, match="worst=1"):
        repetition_reward(worst=1.0)
