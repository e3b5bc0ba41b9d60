import pytest
from triptych_trainer.rewards import load_reward


def score(text, answer, *, spec="accuracy", **columns):
    return load_reward(spec)([text], answer=[answer], example_id=["s1"], source=["f:1"], **columns)[0]


@pytest.mark.parametrize(
    "answer", [["12", "twelve"], [12, "a dozen"], '["12", "twelve"]', "['12', 'twelve']", "('12', 'twelve')", ["12"]]
)
def test_any_of_the_accepted_answers_is_right(answer):
    assert score("<answer>12</answer>", answer) == 1.0
    assert score("<answer>twelve</answer>", answer) == 1.0
    assert score("<answer>13</answer>", answer) == 0.0
    assert score("<answer>12 or 13</answer>", answer) == 0.0


def test_a_list_of_numbers_as_text_is_one_answer():
    assert score("[1, 2, 3]", "[1, 2, 3]") == 1.0
    assert score("1", "[1, 2, 3]") == 0.0
    assert score("1", [1, 2, 3]) == 1.0
    assert score("1", "[1, 2, 3]", spec='accuracy(lists="any")') == 1.0
    assert score("1", [1, 2, 3], spec='accuracy(lists="whole")') == 0.0
    assert score("[1, 2, 3]", [1, 2, 3], spec='accuracy(lists="whole")') == 1.0


def test_brackets_that_are_no_list_are_text():
    assert score("(3, 4)", "(3, 4)") == 1.0
    assert score("3", "(3, 4)") == 0.0
    assert score('["a"]', '<answer>["a"]</answer>') == 1.0
    assert score('[["3"], ["4"]]', [["3"], ["4"]], spec='accuracy(lists="whole")') == 1.0


def test_every_method_takes_the_list():
    assert score("B", ["A", "B"], spec='accuracy(mode="choice")') == 1.0
    assert score("no", ["no"], spec='accuracy(mode="yes_no")') == 1.0
    assert score("3", ["2", "3.0"], spec='accuracy(mode="numeric")') == 1.0
    assert score("3", ["2", "3.0"], spec='accuracy(mode="exact")') == 0.0


@pytest.mark.parametrize(
    ("answer", "spec", "message"),
    [
        ("['cat' 'dog']", "accuracy", 'is a list as Python prints it, .*; write it as JSON, .* or set lists="whole"'),
        ("array(['cat', 'dog'], dtype=object)", "accuracy", "is a list as Python prints it"),
        ("{'cat', 'dog'}", "accuracy", "is a list as Python prints it"),
        ("", "accuracy", "contains an empty text, which no completion can meet; write the answer into the record"),
        ("<answer> </answer>", "accuracy", "contains an empty text"),
        ([], "accuracy", r"the answer \[\] contains no text that a completion could meet"),
        (r"\boxed{}", "accuracy", "contains no text that a completion could meet; write the answer into the record"),
        ([["3"], ["4"]], "accuracy", r'has lists of texts in a list, .*; write the accepted texts as one list, \["...'),
        ([None, " "], "accuracy", "contains no text that a completion could meet"),
        ([10, 20, 30, 40], "accuracy", 'may be a box, .*; for a box use the reward iou or mode="iou"'),
        ("many", 'accuracy(mode="numeric")', "'many' does not contain one number, which the method 'numeric' compares"),
        ("1/0", 'accuracy(mode="numeric")', "does not contain one number"),
        ("maybe", 'accuracy(mode="yes_no")', "does not contain yes or no"),
        ("red", 'accuracy(mode="choice")', "does not contain one option letter"),
    ],
)
def test_an_answer_that_none_can_meet_is_refused(answer, spec, message):
    with pytest.raises(ValueError, match=rf"sample s1 \(f:1\): .*{message}"):
        score("x", answer, spec=spec)


def test_options_are_checked_when_the_reward_is_built():
    with pytest.raises(ValueError, match="lists='all' is unknown; known: auto, any, whole"):
        load_reward('accuracy(lists="all")')
    with pytest.raises(ValueError, match="answer_frame='pixels' is no frame; known: seen, source, unit, thousand"):
        load_reward('accuracy(answer_frame="pixels")')
