"""The record of one image: a reference to its file, or a small copy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["IMAGE", "ImageRecord", "image_from_row", "image_to_row"]

IMAGE = pa.struct(
    [
        ("name", pa.string()),
        ("annotation", pa.string()),
        ("ref", pa.string()),
        ("thumbnail", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """Refers to one image of a prompt or of a turn by its file, or by a small copy if it has no file."""

    name: str | None = None
    annotation: str | None = None
    ref: str
    """Path or description of the image, for readers and for the report."""
    thumbnail: str | None = None
    """Path below the run's `rollouts` folder of a small copy, for images that are no files."""
    width: int
    """Pixels as the model sees them."""
    height: int
    source_width: int | None = None
    """Pixels of the file."""
    source_height: int | None = None


def image_to_row(image: ImageRecord) -> dict[str, Any]:
    """Return the image as a value of `IMAGE`."""
    return {name: getattr(image, name) for name in ImageRecord.__slots__}


def image_from_row(row: Mapping[str, Any]) -> ImageRecord:
    """Return the image that `image_to_row` wrote."""
    return ImageRecord(**row)
