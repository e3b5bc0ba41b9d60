"""Tools by their signatures: what no call could fill is refused before a run."""

import pytest
from PIL import Image
from triptych_trainer import tools
from triptych_trainer.errors import UsageError
from triptych_trainer.tools.pictures import MOST_IMAGES
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.toolbox import tool_of


def every(*numbers: int) -> str:
    """Add.

    Args:
        numbers: some.
    """


def by_place(number: int, /) -> str:
    """Add.

    Args:
        number: one.
    """


def anything(**words) -> str:
    """Say."""


def sharpen(picture: Image.Image | None) -> str:
    """Sharpen.

    Args:
        picture: an image.
    """


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (every, r"every: the parameter \*numbers cannot be given by name"),
        (by_place, r"by_place: the parameter number cannot be given by name"),
        (anything, r"anything: the parameter \*\*words cannot be given by name"),
        (sharpen, r"sharpen: a model cannot write an image for the parameter picture; .* of type RolloutImages"),
    ],
)
def test_a_parameter_that_no_call_can_fill_is_refused(function, words):
    with pytest.raises(UsageError, match=f"^the tool {words}"):
        tool_of(function)


def test_the_images_may_have_a_default():
    def count(images: RolloutImages | None = None) -> str:
        """Count."""

    tool = tool_of(count)
    assert tool.images_as == "images"
    assert tool.schema["function"]["parameters"]["properties"] == {}


def test_a_rollout_gets_a_bounded_number_of_images_from_the_tools_ready_to_use(stage_of):
    zoom = '<tool_call>{"name": "zoom", "arguments": {"image": 1, "box": [0, 0, 500, 500]}}</tool_call>'
    stage = stage_of(tools=[tools.zoom], completion_tokens=8000)
    (rollout,) = stage.run([zoom * (MOST_IMAGES - 1), zoom * 3, "red"])
    assert [rollout.num_calls, rollout.num_failed_calls, len(rollout.images)] == [MOST_IMAGES + 2, 2, MOST_IMAGES]
    assert "17 images were asked for already, and no more are made" in str(rollout.messages[-2])
