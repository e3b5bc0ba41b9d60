import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import completion_text, extract_answer, read_completion

GOOD = "<think>red first, green second</think>\n<answer>first</answer>"


def test_a_good_completion_is_read_in_full():
    reading = read_completion(GOOD)
    assert (reading.thought, reading.answer, reading.problem) == ("red first, green second", "first", None)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("plain", "plain"),
        ([{"role": "assistant", "content": "one"}], "one"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "ab"),
        ([{"role": "assistant", "content": None}], ""),
        (
            [
                {"role": "assistant", "content": "x"},
                {"role": "tool"},
                {"role": "assistant", "content": "y"},
            ],
            "x\ny",
        ),
        ([{"role": "assistant"}], ""),
        ([], ""),
    ],
)
def test_text_of_each_shape_of_completion(completion, text):
    assert completion_text(completion) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GOOD, "first"),
        ("red", "red"),
        ("<think>hm</think> red", "red"),
        ("<answer>a</answer><answer>b</answer>", "b"),
        ("<answer>cut off", None),
        ("<think>cut off", None),
        ("stray</answer>", None),
        ("<answer></answer>", ""),
        ("", None),
        ("<think>a</think>", None),
    ],
)
def test_the_answer_is_found_or_said_to_be_missing(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<answer>a</answer>", "expected one <think>, found 0"),
        ("<think>a</think><answer>a</answer><answer>b</answer>", "expected one <answer>, found 2"),
        ("hi " + GOOD, "expected <think> at the start"),
        (GOOD + " bye", "expected nothing after </answer>"),
        ("<think>a</think> so <answer>b</answer>", "expected nothing between </think> and <answer>"),
        ("<think> </think><answer>b</answer>", "the reasoning is empty"),
        ("<think>a</think><answer> </answer>", "the answer is empty"),
        ("<think>a<answer>b</think></answer>", "expected <answer> after </think>"),
        ("</think><think><answer>b</answer>", "expected <think> at the start"),
    ],
)
def test_each_broken_layout_is_named(text, problem):
    assert read_completion(text).problem == problem


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "x", " ", "\n"]), max_size=12))
def test_any_mixture_of_tags_is_read_without_an_exception(parts):
    reading = read_completion("".join(parts))
    assert reading.problem is not None or (reading.answer and reading.thought)
