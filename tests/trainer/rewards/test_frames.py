import pytest
from triptych_trainer.rewards import ImageInfo
from triptych_trainer.rewards.frames import FRAMES, frame_size, outside_problem, scale_to_seen

IMAGE = ImageInfo(index=1, width=504, height=252, source_width=2016, source_height=1008)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_far_corner_of_every_frame_is_the_far_corner_that_the_model_saw(frame):
    width, height = frame_size(IMAGE, frame)
    scale = scale_to_seen(IMAGE, frame)
    assert (width * scale.x, height * scale.y) == pytest.approx((504, 252))


@pytest.mark.parametrize("frame", FRAMES)
def test_a_corner_beyond_the_edge_is_outside_but_for_rounding(frame):
    width, height = frame_size(IMAGE, frame)
    fits = [(0, 0, width, height), (-0.01 * width, 0, width, 1.01 * height)]
    outside = [(0, 0, width, 1.1 * height), (-0.1 * width, 0, width, height), (2 * width, 0, 3 * width, height)]
    assert all(outside_problem(box, IMAGE, frame=frame, option="answer_frame") is None for box in fits)
    assert all(outside_problem(box, IMAGE, frame=frame, option="answer_frame") is not None for box in outside)


def test_the_problem_names_a_frame_that_fits():
    problem = outside_problem((1000, 600, 1900, 1000), IMAGE, frame="seen", option="answer_frame")
    assert problem == (
        "lies outside image 2, which is 504 x 252 in the frame 'seen' (answer_frame); "
        'state the frame that fits, answer_frame="source", or correct the answer'
    )
    nowhere = outside_problem((9000, 600, 9900, 1000), IMAGE, frame="seen", option="answer_frame")
    assert nowhere.endswith("state another frame with answer_frame, or correct the answer")


def test_nothing_is_compared_with_a_size_that_is_not_known():
    bare = ImageInfo(index=0, width=0, height=0)
    assert frame_size(bare, "seen") is None
    assert frame_size(bare, "source") is None
    assert outside_problem((1000, 600, 1900, 1000), bare, frame="seen", option="answer_frame") is None
