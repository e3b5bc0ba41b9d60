import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import ImageInfo, load_reward

IMAGES = tuple(ImageInfo(index=k, name=name, width=56, height=28) for k, name in enumerate(["start", "middle", "end"]))


def score(text, answer="3, 1, 2", *, kind="exact", images=IMAGES):
    reward = load_reward(f'ordering(score="{kind}")')
    return reward([text], answer=[answer], images=[images], example_id=["s1"])[0]


@pytest.mark.parametrize(
    "text",
    [
        "3, 1, 2",
        "3 1 2",
        "[3,1,2]",
        "(3, 1, 2).",
        "3 -> 1 -> 2",
        "3 > 1 > 2",
        "image 3, image 1, image 2",
        "end, start, middle",
        "3 then 1 then 2",
        "3, 1 and 2",
        "third, first, second",
        "3\n1\n2",
        "<think>hm</think><answer>3,1,2</answer>",
    ],
)
def test_ways_to_write_the_right_order(text):
    assert score(text) == 1.0


@pytest.mark.parametrize("text", ["3, 1", "3, 1, 2, 2", "3, 1, 1", "3, 1, 4", "", "<answer>3, 1, 2", "none", ",,,"])
@pytest.mark.parametrize("kind", ["exact", "pairs", "positions"])
def test_what_is_no_permutation_is_wrong(text, kind):
    assert score(text, kind=kind) == 0.0


def test_partial_scores():
    assert score("1, 3, 2") == 0.0
    assert score("1, 3, 2", kind="pairs") == pytest.approx(2 / 3)
    assert score("2, 1, 3", kind="pairs") == 0.0
    assert score("1, 3, 2", kind="positions") == pytest.approx(1 / 3)
    assert score("3, 1, 2", kind="pairs") == score("3, 1, 2", kind="positions") == 1.0
    assert score("1", answer="1", kind="pairs") == 1.0


def test_letters_and_words_need_no_images():
    assert score("C B A", answer="c, b, a", images=()) == 1.0
    assert score("wash, cut, cook", answer="wash -> cut -> cook", images=()) == 1.0


def test_a_broken_expected_order_names_the_sample():
    with pytest.raises(ValueError, match=r"sample s1: the answer '1, 1' is no order of different items"):
        score("1, 2", answer="1, 1")
    with pytest.raises(ValueError, match="unknown ordering score 'best'; known: exact, pairs, positions"):
        load_reward("ordering(score='best')")


@settings(deadline=None)
@given(st.permutations(["1", "2", "3"]))
def test_partial_scores_are_between_zero_and_one_and_one_only_for_the_right_order(order):
    for kind in ("pairs", "positions"):
        value = score(", ".join(order), kind=kind)
        assert 0 <= value <= 1
        assert (value == 1) == (order == ["3", "1", "2"])
