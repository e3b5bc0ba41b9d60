"""The method that each sample asks for."""

import pytest
from triptych_trainer.rewards import ImageInfo, accuracy_reward
from triptych_trainer.rewards.row import rows

IMAGES = (ImageInfo(index=0, width=10, height=10), ImageInfo(index=1, width=10, height=10))


def score(text, answer, method, **options):
    columns = {"answer": [answer], "accu_reward_method": [method], "example_id": ["s1"], "images": [IMAGES]}
    return accuracy_reward(**options)([text], **columns)[0]


@pytest.mark.parametrize(
    ("method", "right", "wrong", "answer"),
    [
        (None, "3.0", "4", "3"),
        ("default", "3.0", "4", "3"),
        ("auto", "B.", "A", "(B)"),
        ("exact", "RED", "blue", "red"),
        ("all_match", "red", "redder", "red"),
        ("numeric", "it is 3", "it is 4", "3"),
        ("mcq", "(b)", "c", "B"),
        ("choice", "The answer is B", "A or B", "B"),
        ("yes_no", "Yes, it is", "no", "yes"),
        ("iou", "image 2: [0,0,4,4]", "image 1: [0,0,4,4]", "image 2: [0,0,4,4]"),
        ("boxes", "image 2: [0,0,4,4]", "[]", "image 2: [0,0,4,4]"),
        ("detection_f1_50", "image 2: [0,0,4,3]", "image 2: [0,0,4,1]", "image 2: [0,0,4,4]"),
        ("point_in_box", "image 2: (1, 2)", "image 1: (1, 2)", "image 2: [0,0,4,4]"),
        ("od_ap50", "image 2: [0,0,4,3]", "image 2: [0,0,4,1]", "image 2: [0,0,4,4]"),
        ("ordering", "2, 1", "1, 2", "2, 1"),
        ("image_reference", "the second image", "the first image", "2"),
    ],
)
def test_each_method(method, right, wrong, answer):
    assert score(right, answer, method) == 1.0
    assert score(wrong, answer, method) == 0.0


def test_the_sample_overrides_the_mode():
    assert score("3.0", "3", "exact", mode="numeric") == 0.0
    assert score("3.0", "3", None, mode="numeric") == 1.0


def test_an_unknown_method_names_the_sample():
    with pytest.raises(ValueError, match=r"sample s1: unknown accuracy method 'odLength'; known methods: auto, .*mcq"):
        score("x", "x", "odLength")


def test_a_sample_that_asks_for_a_judge_needs_one():
    with pytest.raises(ValueError, match=r"sample s1: asks for the method 'judge', and no judge is set; write acc"):
        score("x", "x", "llm")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>3+2</think> Since 3 + 2 = 5, the answer is \boxed{5}.", "5"),
        (r"<think>r</think> \boxed{second}", "second"),
        (r"<answer>\boxed{cat}</answer>", "cat"),
        (r"\boxed{\text{cat}}", "cat"),
        (r"$$\boxed{\frac{1}{2}}$$", "1/2"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{1{,}000}", "1000"),
        (r"\boxed{50\%}", "50%"),
        ("<answer>3</answer>", "three"),
        ("five", r"Since 3 + 2 = 5, it is $\boxed{5}$."),
    ],
)
def test_answers_as_their_users_write_them(text, answer):
    assert score(text, answer, None) == 1.0
    assert score(text, "seventeen", None) == 0.0


def test_two_boxed_candidates_are_wrong():
    assert score(r"\boxed{5} or \boxed{6}", "6", None) == 0.0
    assert score(r"first \boxed{5}, in the end \boxed{6}", "6", None) == 1.0


def test_frames_reach_the_methods_that_compare_places():
    images = (ImageInfo(index=0, width=10, height=10, source_width=100, source_height=100),)
    reward = accuracy_reward(mode="iou", answer_frame="source", completion_frame="thousand")
    assert reward(["[0, 0, 400, 400]"], answer=["[0, 0, 40, 40]"], images=[images]) == [1.0]


@pytest.mark.parametrize(
    ("method", "answer", "message"),
    [
        ("auto", "", "contains an empty text"),
        ("iou", "image 2: [0, 0, 90, 90]", "outside image 2"),
        ("boxes", "image 2: [4, 4, 0, 0]", "has no area"),
        ("point_in_box", "[]", "expects a box"),
        ("ordering", "1, 1", "no order of different items"),
        ("image_reference", "9", "names an image that is not there among the 2 images"),
        ("judge", "x", "no judge is set"),
    ],
)
def test_every_method_checks_what_is_expected_before_a_run(method, answer, message):
    reward = accuracy_reward()
    (row,) = rows([""], columns={"answer": [answer], "accu_reward_method": [method], "images": [IMAGES]})
    with pytest.raises(ValueError, match=message):
        reward.check_answer(row)


def test_objects_with_boxes_are_compared_as_boxes():
    (score,) = accuracy_reward()(['{"bbox_2d": [10, 20, 30, 41]}'], answer=['{"bbox_2d": [10, 20, 30, 40]}'])
    assert score == pytest.approx(20 / 21)
    assert accuracy_reward()(["[1, 2]"], answer=['{"a": [10, 20, 30, 40]}']) == [0.0]


def test_of_gsm8k_the_text_behind_its_mark_counts():
    assert accuracy_reward()(["18", "9"], answer=["9 + 9 = 18\n#### 18"] * 2) == [1.0, 0.0]
