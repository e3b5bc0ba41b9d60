"""Tools by their signatures: what no call could fill is refused before a run."""

import pytest
from PIL import Image
from triptych_trainer.errors import UsageError
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
    with pytest.raises(UsageError, match=f"^tools: {words}"):
        tool_of(function)


def test_the_images_may_have_a_default():
    def count(images: RolloutImages | None = None) -> str:
        """Count."""

    tool = tool_of(count)
    assert tool.images_as == "images"
    assert tool.schema["function"]["parameters"]["properties"] == {}
