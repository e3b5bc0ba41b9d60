"""Every pair of values in the table of docs/rewards.md, and options that are given by text instead of letter."""

import re
from pathlib import Path

import pytest
from triptych_trainer.rewards import accuracy_reward

DOCUMENT = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
TABLE = DOCUMENT.partition("| expected | right | wrong |\n|---|---|---|\n")[2].partition("\n\n")[0]
PAIRS = [[re.findall("`([^`]+)`", cell) for cell in line.strip("|").split("|")] for line in TABLE.splitlines()]
LINES = "Which one?\nA. the dog\nB. the cat\nC. 4 cm"
INLINE = [{"type": "image"}, {"type": "text", "text": "Which one? (A) the dog (B) the cat (C) 4 cm"}]


def score(answer, expected, **columns):
    return accuracy_reward()([f"<answer>{answer}</answer>"], answer=[expected], **columns)[0]


@pytest.mark.parametrize(("expected", "right", "wrong"), PAIRS, ids=[pair[0][0] for pair in PAIRS])
def test_the_table_says_what_is_right_and_wrong(expected, right, wrong):
    assert {answer: score(answer, *expected) for answer in right} == dict.fromkeys(right, 1.0)
    assert {answer: score(answer, *expected) for answer in wrong} == dict.fromkeys(wrong, 0.0)


@pytest.mark.parametrize("tags", ["<ANSWER>{}</ANSWER>", "<answer>dog</answer><Answer>{}</Answer>"])
def test_the_tags_of_an_answer_may_be_in_capitals(tags):
    scored = accuracy_reward()([tags.format("cat"), tags.format("dog"), f"<THINK>{tags}"], answer=["cat"] * 3)
    assert scored == [1.0, 0.0, 0.0]
    assert accuracy_reward()(["cat"], answer=[tags.format("cat")]) == [1.0]


def test_an_expected_object_is_met_by_the_same_object():
    assert score('{"answer": "3", "unit": "cm"}', '{"answer": "3", "unit": "cm"}') == 1.0


def test_the_method_exact_unwraps_nothing():
    assert score('{"answer": "cat"}', "cat", accu_reward_method=["all_match"]) == 0.0


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"prompts": [[{"role": "user", "content": LINES}]]}, id="lines of the question"),
        pytest.param({"prompts": [[{"role": "user", "content": INLINE}]]}, id="in the sentence"),
        pytest.param({"options": [["A. the dog", "B. the cat", "C. 4 cm"]]}, id="column with letters"),
        pytest.param({"choices": ["['the dog', 'the cat', '4 cm']"]}, id="column without letters, as text"),
    ],
)
@pytest.mark.parametrize("method", [None, "mcq"])
def test_the_text_of_an_option_counts_as_its_letter(columns, method):
    given = {**columns, "accu_reward_method": [method]}
    for answer, right in {"the cat": 1, "The cat.": 1, "the dog": 0, "a cat": 0, "the dog or the cat": 0}.items():
        assert score(answer, "B", **given) == right, answer
    assert score("4", "C", **given) == 1.0
    assert score("4 mm", "C", **given) == 0.0


def test_the_letter_of_an_option_counts_as_its_text():
    options = {"options": [["the dog", "the cat"]]}
    for answer, right in {"B": 1, "(b)": 1, "The answer is B.": 1, "B. the cat": 1, "A": 0, "B. the dog": 0}.items():
        assert score(answer, "the cat", **options) == right, answer
        assert score(answer, "B", **options) == right, answer


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["B", "A"], id="texts that are letters"),
        pytest.param(["the cat", "the cat"], id="equal texts"),
        pytest.param(["the cat"], id="one option"),
    ],
)
def test_options_that_are_not_clear_decide_nothing(options):
    assert score("the cat", "B", options=[options]) == 0.0
    assert score("A", "the cat", options=[options]) == 0.0
