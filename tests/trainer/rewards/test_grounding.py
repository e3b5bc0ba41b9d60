import json

import pytest
from triptych_trainer.rewards import ImageInfo, load_reward

ONE = (ImageInfo(index=0, width=100, height=100, source_width=200, source_height=200),)
TWO = (*ONE, ImageInfo(index=1, name="after", width=100, height=50, source_width=400, source_height=100))


def score(spec, text, answer, *, images=TWO):
    return load_reward(spec)([text], answer=[answer], images=[images], example_id=["s1"], source=["f:1"])[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<answer>image 2: [0, 0, 10, 10]</answer>", 1.0),
        ('<answer>{"bbox_2d": [0, 0, 10, 5], "image": "after"}</answer>', 0.5),
        ("image 1: [0, 0, 10, 10]", 0.0),
        ("image 7: [0, 0, 10, 10]", 0.0),
        ("[0, 0, 10, 10]", 0.0),
        ("image 2: [0, 0, 10, 10], [0, 0, 10, 10]", 0.0),
        ("image 2: [10, 10, 0, 0]", 0.0),
        ("image 2", 0.0),
        ("<answer>image 2: [0, 0, 10, 10]", 0.0),
        ("[]", 0.0),
        ("", 0.0),
    ],
)
def test_the_box_must_be_in_the_right_image(text, value):
    assert score("iou", text, '{"bbox_2d": [0, 0, 10, 10], "image": 2}') == pytest.approx(value)


def test_one_image_needs_no_number():
    assert score("iou", "[0, 0, 10, 10]", "[0, 0, 10, 10]", images=ONE) == 1.0
    assert score("iou", "image 1: [0, 0, 10, 10]", "[0, 0, 10, 10]", images=ONE) == 1.0
    assert score("iou", "[0, 0, 10, 10]", "[0, 0, 10, 10]", images=()) == 1.0


def test_a_threshold_makes_it_all_or_nothing():
    for text, value in (("[0, 0, 10, 5]", 1.0), ("[0, 0, 10, 4]", 0.0)):
        assert score("iou(threshold=0.5)", text, "[0, 0, 10, 10]", images=ONE) == value


def test_frames_of_both_sides():
    spec = 'iou(answer_frame="source", completion_frame="thousand")'
    assert score(spec, "image 2: [100, 200, 500, 600]", "image 2: [40, 20, 200, 60]") == pytest.approx(1.0)


def test_a_box_in_an_image_that_is_not_there_is_wrong_in_every_frame():
    assert score('iou(completion_frame="unit")', "image 5: [0, 0, 1, 1]", "image 2: [0, 0, 10, 10]") == 0.0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("red", r"sample s1 \(f:1\): the answer 'red' contains no box"),
        ("[0, 0, 1, 1]", "does not say which of the 2 images its box is in"),
        ("image 9: [0, 0, 1, 1]", "puts a box into an image that the row does not have: it has 2 images"),
        (
            "image 1: [0, 0, 200, 200]",
            'outside image 1, .* 100 x 100 in the frame .seen. .*answer_frame="source"',
        ),
        ("image 1: [0.1, 0.2, 0.3, 0.4]", 'not larger than 1 x 1 in the frame .seen. .*answer_frame="unit"'),
        ("image 2: [10, 10, 0, 0]", r"has no area in the frame 'seen' \(answer_frame\), because its corners"),
        ("image 1: [0, 0, 2, 2], [2, 2, 3, 3]", "expects one box in the answer, it has 2; use the reward boxes"),
    ],
)
def test_mistakes_of_the_dataset_are_named(answer, message):
    with pytest.raises(ValueError, match=message):
        score("iou", "image 1: [0, 0, 1, 1]", answer)


def test_frames_without_images_are_refused():
    with pytest.raises(ValueError, match=r"boxes in the frame 'unit' need the column 'images'"):
        score('iou(answer_frame="unit")', "[0, 0, 1, 1]", "[0, 0, 1, 1]", images=())


SET = json.dumps([{"bbox_2d": [0, 0, 10, 10], "image": 1}, {"bbox_2d": [20, 20, 30, 30], "image": 2}])


@pytest.mark.parametrize(
    ("text", "soft", "half", "coco"),
    [
        (SET, 1.0, 1.0, 1.0),
        ("image 1: [0, 0, 10, 10]", 0.5, 2 / 3, 2 / 3),
        ("image 1: [0, 0, 10, 10], [20, 20, 30, 30]", 0.5, 0.5, 0.5),
        ("image 1: [0, 0, 10, 8]; image 2: [20, 20, 30, 30]", 0.9, 1.0, 0.85),
        ("image 1: [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]; image 2: [20, 20, 30, 30]", 0.5, 2 / 3, 2 / 3),
        ("[]", 0.0, 0.0, 0.0),
        ("nothing", 0.0, 0.0, 0.0),
        ("<answer>", 0.0, 0.0, 0.0),
    ],
)
def test_sets_of_boxes(text, soft, half, coco):
    assert score("boxes", text, SET) == pytest.approx(soft)
    assert score("boxes(thresholds=0.5)", text, SET) == pytest.approx(half)
    assert score("accuracy(mode='od_ap50')", text, SET) == pytest.approx(half)
    assert score("accuracy(mode='map')", text, SET) == pytest.approx(coco)


def test_labels_of_python_literals_count():
    answer = "[{'bbox_2d': [1, 2, 30, 40], 'label': 'cat', 'image': 2}]"
    for label, value in (("cat", 1.0), ("dog", 0.0)):
        assert score("boxes", f"[{{'bbox_2d': [1, 2, 30, 40], 'label': '{label}', 'image': 2}}]", answer) == value


def test_every_box_of_a_set_is_checked():
    with pytest.raises(ValueError, match=r"the expected box \[0, 0, 10, 900\] lies outside image 2"):
        score("boxes", "[]", "image 1: [0, 0, 10, 10]; image 2: [0, 0, 10, 900]")


def test_nothing_to_find():
    assert score("boxes", "[]", "[]") == 1.0
    assert score("boxes", "image 1: [0, 0, 1, 1]", "[]") == 0.0
    assert score("boxes", "I see nothing", "[]") == 0.0
