import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import completion_text, extract_answer, read_completion
from triptych_trainer.rewards.completion import layout_problem, opened_by

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
        (r"<think>3+2</think> Since 3 + 2 = 5, the answer is \boxed{5}.", "5"),
        (r"<think>\boxed{4}</think> \boxed{second}", "second"),
        (r"<answer>so \boxed{\text{cat}}</answer>", r"\text{cat}"),
        (r"<answer>5</answer> \boxed{6}", "5"),
        (r"so \boxed{5", None),
        ("<think><answer>2</answer></think> 3", "3"),
        (r"<think><answer>2</answer></think> \boxed{3}", "3"),
        ("<think>a</think><answer>2</answer></think> b", "2"),
        ("<think><answer>2</answer></think>", "2"),
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


@pytest.mark.parametrize(
    ("prompt_end", "opened"),
    [
        ("<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<think></think>"),
        ("write <think> first<|im_end|>\n<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_what_the_prompt_has_opened(prompt_end, opened):
    assert opened_by(prompt_end) == opened


@pytest.mark.parametrize(
    ("opened", "text", "problem"),
    [
        ("<think>", "a</think><answer>b</answer>", None),
        ("<think>", "<think>a</think><answer>b</answer>", "expected one <think>, found 2"),
        ("<think>", "</think><answer>b</answer>", "the reasoning is empty"),
        ("<think>", "<answer>b</answer>", "expected one </think>, found 0"),
        ("<think></think>", "<answer>b</answer>", None),
        ("<think></think>", "<think>a</think><answer>b</answer>", None),
        ("<think></think>", "b", "expected one <answer>, found 0"),
    ],
)
def test_what_the_template_opened_counts(opened, text, problem):
    assert layout_problem(text, opened=opened) == problem
    assert read_completion(text, opened=opened).problem == problem


def test_reasoning_that_a_response_template_took_out_is_in_the_text():
    message = {"role": "assistant", "content": "<answer>b</answer>", "reasoning_content": "a"}
    assert completion_text([message]) == "<think>a</think><answer>b</answer>"
