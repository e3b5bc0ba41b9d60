"""Questions about closed boxes: what they ask, and that nothing visible tells what is inside."""

from collections import Counter

import numpy as np
import pytest
from triptych_trainer.demo.look.environment import LOOK_COST, BlankBoxes, Boxes
from triptych_trainer.demo.look.pictures import draw_inside, draw_overview
from triptych_trainer.demo.look.rewards import answered
from triptych_trainer.demo.look.task import LOOKS, Inside, make_sample
from triptych_trainer.demo.pictures import COLOURS, SHAPES
from triptych_trainer.trajectories.environments import Environments

SAMPLES = [make_sample(index, seed=0, split="any") for index in range(600)]


def test_a_sample_is_a_function_of_its_index():
    sample = make_sample(4, seed=0, split="golden")
    assert sample == make_sample(4, seed=0, split="golden")
    assert (sample.kind, sample.question, sample.answer) == ("two", "What is in box 3 and box 2 ?", "yellow blue")
    assert sample != make_sample(4, seed=1, split="golden") != make_sample(4, seed=0, split="train")


def test_kinds_come_in_their_shares_and_ask_for_what_they_say():
    assert Counter(sample.kind for sample in SAMPLES) == {"lids": 120, "one": 360, "two": 120}
    for sample in SAMPLES:
        assert len(sample.asked) == LOOKS[sample.kind]
        assert len(set(sample.lids)) == 3
        if sample.kind == "lids":
            assert sample.answer == " ".join(sample.lids)
        else:
            assert sample.answer.split() == [sample.inside[box - 1].colour for box in sample.asked]
        if sample.kind == "one":
            assert sample.question == f"What is in the {sample.asked_lid} box ?"


def test_what_is_inside_is_drawn_without_regard_to_anything_visible():
    """The best rule from lid, box and question to a colour stays near an even guess among six."""
    one = [sample for sample in SAMPLES if sample.kind == "one"]
    for visible in (lambda s: s.asked_lid, lambda s: s.asked[0], lambda s: s.lids[0]):
        best = Counter()
        for value in {visible(sample) for sample in one}:
            best[value] = max(Counter(s.answer for s in one if visible(s) == value).values())
        assert sum(best.values()) / len(one) < 0.3, "six values of 60 samples each, whose largest share is by luck"


def test_pictures_show_lids_numbers_and_insides():
    overview = np.asarray(draw_overview(["red", "green", "blue"]))
    assert overview.shape == (28, 84, 3)
    for k, lid in enumerate(("red", "green", "blue")):
        box = overview[:, 28 * k : 28 * k + 28].reshape(-1, 3)
        assert (box == COLOURS[lid]).all(axis=1).sum() > 200
        assert (box == 255).all(axis=1).sum() == 60 * (k + 1), "one bar more for each box"
    insides = {(c, s): draw_inside(Inside(colour=c, shape=s)).tobytes() for c in COLOURS for s in SHAPES}
    assert len(set(insides.values())) == len(COLOURS) * len(SHAPES)


def test_the_tool_opens_what_the_row_says_and_each_look_costs():
    environments = Environments(Boxes)
    (boxes,) = environments.take(1)
    assert list(environments.tools(boxes)) == ["look"]
    row = {"colours": ["red", "blue", "red"], "shapes": ["circle", "square", "square"], "answer": "blue"}
    assert environments.reset([boxes], row, where="any") == []
    assert boxes.look(2).tobytes() == draw_inside(Inside(colour="blue", shape="square")).tobytes()
    with pytest.raises(LookupError, match="there is no box 4 ; there are 1 to 3"):
        boxes.look(4)
    assert boxes.get_reward() == -2 * LOOK_COST == -0.0625
    environments.reset([boxes], row, where="any")
    assert boxes.get_reward() == 0
    blank = BlankBoxes()
    blank.reset(row["colours"], row["shapes"])
    assert blank.look(1).tobytes() == blank.look(2).tobytes() == blank.look(3).tobytes()


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("<answer> green</answer>", "red", 1.0),
        ("<answer>green</answer>", "red blue", 0.0),
        ("<answer> green blue</answer>", "red blue", 1.0),
        (" green", "green", 0.0),
        ("<answer> green", "green", 0.0),
        ("<answer> green</answer><answer> green</answer>", "green", 0.0),
    ],
)
def test_an_answer_has_its_tags_and_as_many_colours_as_are_asked_for(text, answer, score):
    assert answered([[{"role": "assistant", "content": text}]], [answer]) == [score]


def test_a_rollout_that_ends_in_a_call_or_a_picture_has_no_answer():
    call = {"type": "function", "function": {"name": "look", "arguments": {"box": 1}}}
    asking = {"role": "assistant", "content": "<answer> red</answer>", "tool_calls": [call]}
    told = {"role": "tool", "name": "look", "content": "x"}
    last = {"role": "assistant", "content": "<answer> red</answer>", "reasoning_content": " red 1"}
    completions = [[asking], [asking, told], [], [asking, told, last]]
    assert answered(completions, ["red"] * 4) == [0.0, 0.0, 0.0, 1.0]
