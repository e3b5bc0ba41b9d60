"""The method that each sample asks for."""

import pytest
from triptych_trainer.rewards import ImageInfo, accuracy_reward

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
