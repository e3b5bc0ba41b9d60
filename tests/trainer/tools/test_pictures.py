"""Tools ready to use: which pixels they return, in which frame boxes are read, and what they tell the model."""

import numpy as np
import pytest
from PIL import Image
from triptych_trainer import tools
from triptych_trainer.tools import pixels
from triptych_trainer.tools.pictures import MOST_IMAGES, box_in_picture, picture_tools
from triptych_trainer.trajectories.images import RolloutImage, RolloutImages
from triptych_trainer.trajectories.toolbox import tool_of


def images(*, count=1, arrived=0):
    """Pictures of 200 x 100 pixels that were shown at 50 x 100 (height, width), each pixel of its own colour."""
    y, x = np.mgrid[:100, :200]
    picture = Image.fromarray(np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8))
    return RolloutImages([RolloutImage(picture=picture, model_size=(50, 100))] * count, num_arrived=arrived)


def returned(answer):
    (part,) = answer
    return np.array(part["image"])


def test_boxes_are_read_in_thousandths_or_in_pixels_as_shown():
    shown = images()[1]
    assert box_in_picture([500, 0, 1000, 500], shown, frame="thousandths") == (100, 0, 200, 50)
    assert box_in_picture([50, 0, 100, 25], shown, frame="pixels") == (100, 0, 200, 50)
    assert box_in_picture([0, 0, 0.1, 0.1], shown, frame="thousandths") == (0, 0, 1, 1), "never empty"


@pytest.mark.parametrize("length", [23, 25, 27, 29, 58, 199])
@pytest.mark.parametrize("shown_at", [28, 56, 84, 364])
def test_a_box_at_the_edge_ends_at_the_edge(length, shown_at):
    shown = RolloutImage(picture=Image.new("RGB", (length, length)), model_size=(shown_at, shown_at))
    for k in range(shown_at):
        left, _, right, bottom = box_in_picture([k, k, k + 1, shown_at], shown, frame="pixels")
        assert (left, right, bottom) == (k * length // shown_at, -(-(k + 1) * length // shown_at), length)


def test_crop_returns_the_pixels_of_the_file():
    found = returned(tools.crop(1, [500, 0, 1000, 500], images()))
    assert found.shape == (50, 100, 3)
    assert found[0, 0].tolist() == [100, 0, 7]
    assert (found == returned(pixels.crop(1, [50, 0, 100, 25], images()))).all()


def test_zoom_enlarges_to_the_pixels_that_the_image_was_shown_at():
    found = returned(tools.zoom(1, [0, 0, 100, 100], images()))
    assert found.shape == (50, 100, 3), "a part of 20 x 10 pixels fills 100 x 50"
    assert returned(tools.zoom(1, [0, 0, 1000, 1000], images())).shape == (100, 200, 3), "nothing is made smaller"


def test_rotate_turns_clockwise():
    found = returned(tools.rotate(1, 90, images()))
    assert found.shape == (200, 100, 3)
    assert found[0, 0].tolist() == [0, 99, 7], "what was at the bottom left is at the top left"
    for wrong in (45, "90", None, float("nan")):
        with pytest.raises(ValueError, match=f"degrees must be 90, 180 or 270, got {wrong!r}"):
            tools.rotate(1, wrong, images())


def test_mark_draws_on_a_copy():
    before = images()
    found = returned(tools.mark(1, [0, 0, 500, 500], before))
    assert found[0, 0].tolist() == found[49, 99].tolist() == [255, 0, 0]
    assert found[50, 100].tolist() == [100, 50, 7]
    assert np.array(before[1].picture)[0, 0].tolist() == [0, 0, 7]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3], "box must be four numbers, left, top, right and bottom, got"),
        (["a", 2, 3, 4], "box must be four numbers"),
        ([float("nan"), 2, 3, 4], "box must be four numbers"),
        ([0, 0, float("inf"), 4], "box must be four numbers"),
        ([0, 0, 10**400, 4], "box must lie within"),
        ([False, 0, True, 4], "box must be four numbers"),
        ([5, 5, 5, 9], "with left < right and top < bottom"),
        ([500, 0, 400, 100], "box must lie within 0, 0, 1000, 1000 with left < right"),
        ([0, 0, 1001, 100], "box must lie within"),
        ("0 0 1 1", "box must be four numbers"),
    ],
)
def test_what_is_no_box_is_told_to_the_model(box, message):
    with pytest.raises(ValueError, match=message):
        tools.crop(1, box, images())


def test_images_are_bounded_in_number_and_those_of_the_prompt_do_not_count():
    with pytest.raises(ValueError, match=f"{MOST_IMAGES} images were asked for already, and no more are made"):
        tools.zoom(1, [0, 0, 500, 500], images(arrived=MOST_IMAGES))
    assert returned(tools.zoom(20, [0, 0, 500, 500], images(count=20))).shape == (50, 100, 3)


@pytest.mark.parametrize("frame", ["thousandths", "pixels"])
def test_the_model_is_told_of_the_frame_and_not_of_the_images(frame):
    for name, tool in picture_tools(frame).items():
        function = tool_of(tool).schema["function"]
        assert function["name"] == name
        assert "images" not in function["parameters"]["properties"]
        if name != "rotate":
            assert frame in function["parameters"]["properties"]["box"]["description"]
    with pytest.raises(ValueError, match="expected a frame among thousandths, pixels, got 'inches'"):
        picture_tools("inches")
