"""Tools that return a picture made of one that the model has seen: cut out, enlarged, turned, or marked.

Whatever is wrong with a call is an exception, whose text the model reads. Results are never larger than what they were
made of, or than it was shown at; the model's own image processor then resizes them by its own rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from PIL import Image, ImageDraw

from triptych_trainer.rollouts.rollout import BoxFrame
from triptych_trainer.trajectories.images import RolloutImage, RolloutImages

__all__ = ["MOST_IMAGES", "BoxFrame", "box_in_picture", "picture_tools"]

MOST_IMAGES = 16
"""A rollout in which so many images arrived after its prompt gets no further one from these tools."""
_FRAMES = {
    "thousandths": "in thousandths of the image's width and height",
    "pixels": "in pixels of the image as it was shown",
}
_IMAGE = "image: The number of the image, counted from 1 in the order in which images were shown."


def picture_tools(frame: BoxFrame) -> dict[str, Callable[..., Any]]:
    """Return the tools by name, for boxes in a frame.

    Raises:
        ValueError: there is no such frame.
    """
    if frame not in _FRAMES:
        raise ValueError(f"expected a frame among {', '.join(_FRAMES)}, got {frame!r}")

    def zoom(image: int, box: list[float], images: RolloutImages) -> list[Any]:
        shown = _shown(images, image)
        picture = shown.picture.crop(box_in_picture(box, shown, frame=frame))
        scale = math.sqrt(shown.model_size[0] * shown.model_size[1] / (picture.width * picture.height))
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return _answer(picture if scale <= 1 else picture.resize(size, Image.Resampling.BICUBIC))

    def crop(image: int, box: list[float], images: RolloutImages) -> list[Any]:
        shown = _shown(images, image)
        return _answer(shown.picture.crop(box_in_picture(box, shown, frame=frame)))

    def rotate(image: int, degrees: int, images: RolloutImages) -> list[Any]:
        if not _is_number(degrees) or degrees % 90:
            raise ValueError(f"degrees must be 90, 180 or 270, got {degrees!r}")
        return _answer(_shown(images, image).picture.rotate(-degrees, expand=True))

    def mark(image: int, box: list[float], images: RolloutImages) -> list[Any]:
        shown = _shown(images, image)
        picture = shown.picture.copy()
        left, top, right, bottom = box_in_picture(box, shown, frame=frame)
        width = max(2, round(max(picture.size) / 200))
        ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline=(255, 0, 0), width=width)
        return _answer(picture)

    where = f"box: Its left, top, right and bottom, {_FRAMES[frame]}."
    zoom.__doc__ = _described("Cut a part out of an image and enlarge it.", where)
    crop.__doc__ = _described("Cut a part out of an image.", where)
    rotate.__doc__ = _described("Turn an image clockwise.", "degrees: 90, 180 or 270.")
    mark.__doc__ = _described("Draw a red box on an image.", where)
    tools: tuple[Callable[..., Any], ...] = (zoom, crop, rotate, mark)
    for tool in tools:
        tool.box_frame = frame  # type: ignore[attr-defined]
    return {tool.__name__: tool for tool in tools}


def box_in_picture(box: Sequence[float], shown: RolloutImage, *, frame: BoxFrame) -> tuple[int, int, int, int]:
    """Return a box as whole pixels of the decoded picture, which may be larger than what the model saw.

    Raises:
        ValueError: it is no box inside the image; says what was expected, for the model to read.
    """
    height, width = (1000, 1000) if frame == "thousandths" else shown.model_size
    corners = list(box) if isinstance(box, (list, tuple)) else []
    if len(corners) != 4 or not all(map(_is_number, corners)):
        raise ValueError(f"box must be four numbers, left, top, right and bottom, got {box}")
    left, top, right, bottom = corners
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"box must lie within 0, 0, {width}, {height} with left < right and top < bottom, got {box}")
    # Fractions, because 84 * (23 / 84) is more than 23: a box would get a black row from beyond the edge.
    x, y = Fraction(shown.picture.width, width), Fraction(shown.picture.height, height)
    left, top, right, bottom = map(Fraction, (left, top, right, bottom))
    first, second = math.floor(left * x), math.floor(top * y)
    return first, second, max(first + 1, math.ceil(right * x)), max(second + 1, math.ceil(bottom * y))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _shown(images: RolloutImages, which: int) -> RolloutImage:
    if images.num_arrived >= MOST_IMAGES:
        raise ValueError(f"{images.num_arrived} images were asked for already, and no more are made")
    return images[which]


def _answer(picture: Image.Image) -> list[Any]:
    return [{"type": "image", "image": picture}]


def _described(what: str, argument: str) -> str:
    return f"{what}\n\nArgs:\n    {_IMAGE}\n    {argument}\n"
