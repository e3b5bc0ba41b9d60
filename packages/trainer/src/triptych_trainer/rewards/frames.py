"""Frames: what the numbers of a point or a box mean, and whether an expected one lies in its image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from triptych_trainer.rewards.row import ImageInfo

__all__ = ["FRAMES", "Frame", "check_frames", "frame_size", "outside_problem", "scale_to_seen"]

Frame = Literal["seen", "source", "unit", "thousand", "percent"]
FRAMES: tuple[Frame, ...] = ("seen", "source", "unit", "thousand", "percent")
_SHARES = {"unit": 1.0, "thousand": 1000.0, "percent": 100.0}
_SLACK = 0.02
"""The share of a side by which a corner may lie beyond the edge: sizes are rounded when images are resized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Contains the factors from a frame to pixels of the image as the model saw it."""

    x: float
    y: float


def check_frames(**frames: str) -> None:
    """Raise ValueError where the option of a reward names no frame."""
    for option, frame in frames.items():
        if frame not in FRAMES:
            raise ValueError(f"{option}={frame!r} is no frame; known: {', '.join(FRAMES)}")


def frame_size(image: ImageInfo, frame: Frame) -> tuple[float, float] | None:
    """Return the (width, height) of an image in a frame, None where they are not known.

    Frames are pixels as the model saw them (`seen`), pixels of the file (`source`), and fractions (`unit`), hundredths
    (`percent`) or thousandths (`thousand`) of width and height. Raises ValueError for any other word.
    """
    if frame in _SHARES:
        return _SHARES[frame], _SHARES[frame]
    if frame not in FRAMES:
        raise ValueError(f"unknown frame {frame!r}; known: {', '.join(FRAMES)}")
    size = (image.width, image.height) if frame == "seen" else (image.source_width, image.source_height)
    return (float(size[0]), float(size[1])) if size[0] and size[1] else None


def scale_to_seen(image: ImageInfo, frame: Frame) -> Scale:
    """Return the factors from a frame to pixels as the model saw them; raise ValueError without the file's size."""
    if frame == "seen":
        return Scale(x=1.0, y=1.0)
    size = frame_size(image, frame)
    if size is None:
        raise ValueError(
            f"boxes in pixels of the file need the size of image {image.number}'s file, which is not known; "
            "give source_width and source_height, or use the frame 'seen', 'unit', 'thousand' or 'percent'"
        )
    return Scale(x=image.width / size[0], y=image.height / size[1])


def outside_problem(corners: Sequence[float], image: ImageInfo, *, frame: Frame, option: str) -> str | None:
    """Say why corners `(x1, y1, x2, y2)` can lie in no image of this size, and which frame would fit, or None if they
    can.

    `option` is the name of the reward's option that states the frame.
    """
    size = frame_size(image, frame)
    if size is None or _fits(corners, size):
        return None
    sizes = {name: frame_size(image, name) for name in FRAMES}
    fitting = [name for name, other in sizes.items() if other is not None and _fits(corners, other)]
    advice = f'state the frame that fits, {option}="{fitting[0]}"' if fitting else f"state another frame with {option}"
    width, height = (f"{side:g}" for side in size)
    return (
        f"lies outside image {image.number}, which is {width} x {height} in the frame {frame!r} ({option}); "
        f"{advice}, or correct the answer"
    )


def _fits(corners: Sequence[float], size: tuple[float, float]) -> bool:
    x1, y1, x2, y2 = corners
    x, y = (side * _SLACK for side in size)
    return min(x1, x2) >= -x and min(y1, y2) >= -y and max(x1, x2) <= size[0] + x and max(y1, y2) <= size[1] + y
