import pytest
from triptych_trainer.rewards import ImageInfo, load_reward

ONE = (ImageInfo(index=0, width=500, height=250, source_width=2000, source_height=1000),)
TWO = (*ONE, ImageInfo(index=1, name="after", width=500, height=250, source_width=2000, source_height=1000))
BOX = "[100, 50, 200, 100]"


def score(text, answer=BOX, *, spec="point_in_box", images=ONE):
    return load_reward(spec)([text], answer=[answer], images=[images], example_id=["s1"], source=["f:1"])[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(150, 75)", 1.0),
        ("(100, 50)", 1.0),
        ("(200, 100)", 1.0),
        ("(99, 75)", 0.0),
        ("(150, 101)", 0.0),
        ("<think>(150, 75)</think>(0, 0)", 0.0),
        ("<answer>click(x=150, y=75)</answer>", 1.0),
        (r"\boxed{(150, 75)}", 1.0),
        ("[100, 50, 200, 100]", 1.0),
        ("(150, 75) or (300, 75)", 0.0),
        ("<answer>(150, 75)", 0.0),
        ("the button", 0.0),
        ("", 0.0),
    ],
)
def test_the_point_must_lie_in_the_box(text, value):
    assert score(text) == value


@pytest.mark.parametrize(
    ("frame", "text"),
    [("seen", "(150, 75)"), ("source", "(600, 300)"), ("unit", "(0.3, 0.3)"), ("percent", "(30, 30)")],
)
def test_the_completion_has_its_own_frame(frame, text):
    spec = f'point_in_box(completion_frame="{frame}")'
    assert score(text, spec=spec) == 1.0
    assert score("(1, 1)", spec=spec) == 0.0


def test_the_answer_has_its_own_frame():
    spec = 'point_in_box(answer_frame="source", completion_frame="thousand")'
    assert score("<point>300 300</point>", "[400, 200, 800, 400]", spec=spec) == 1.0
    assert score("<point>450 300</point>", "[400, 200, 800, 400]", spec=spec) == 0.0


def test_the_point_must_be_in_the_boxs_image():
    answer = '{"bbox_2d": [100, 50, 200, 100], "image": 2}'
    assert score("image 2: (150, 75)", answer, images=TWO) == 1.0
    assert score('{"point_2d": [150, 75], "image": "after"}', answer, images=TWO) == 1.0
    assert score("image 1: (150, 75)", answer, images=TWO) == 0.0
    assert score("(150, 75)", answer, images=TWO) == 0.0
    assert score("image 7: (150, 75)", answer, images=TWO) == 0.0


def test_one_of_several_boxes_is_enough():
    assert score("(10, 10)", "[[100, 50, 200, 100], [0, 0, 20, 20]]") == 1.0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "[600, 300, 800, 400]",
            "lies outside image 1, which is 500 x 250 in the frame 'seen' .*answer_frame=\"source\"",
        ),
        ("[200, 100, 100, 50]", r"\(answer_frame\), because its corners are equal or in the wrong order"),
        ("[]", "expects a box in the answer, it has none"),
        ("the button", "contains no box"),
    ],
)
def test_a_box_that_no_point_can_lie_in_is_refused(answer, message):
    with pytest.raises(ValueError, match=rf"sample s1 \(f:1\): .*{message}"):
        score("(1, 1)", answer)


def test_accuracy_knows_the_method():
    assert score("(150, 75)", spec='accuracy(mode="point_in_box")') == 1.0
    assert score("(600, 300)", spec='accuracy(mode="point_in_box", completion_frame="source")') == 1.0
