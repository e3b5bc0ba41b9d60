"""Whether two entries name the same file, as far as their names show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from triptych_data.addresses import is_data_address

_PATHS = ("path", "image", "image_path", "img")


def is_among(value: Any, images: Sequence[Any]) -> bool:
    """Return whether a value is one of the images, or names its file, with as many folders as both names have."""
    if any(value is image or value == image for image in images):
        return True
    if isinstance(value, Mapping) and value.get("bytes"):
        images = [image for image in images if not (isinstance(image, Mapping) and image.get("bytes"))]
    known = [name for image in images for name in file_names(image)]
    names = file_names(value)
    return bool(names) and all(any(_is_same_file(name, other) for other in known) for name in names)


def file_names(value: Any) -> list[PurePosixPath]:
    """Return the paths in a path, in a mapping or in a list, else an address; none for bytes and pixels."""
    if isinstance(value, Mapping):
        return file_names([value[key] for key in _PATHS if key in value] or value.get("url"))
    if isinstance(value, (list, tuple)):
        return [name for inner in value for name in file_names(inner)]
    if not isinstance(value, str) or is_data_address(value):
        return []
    return [PurePosixPath(value.replace("\\", "/").partition("?")[0].removeprefix("file:").lstrip("/"))]


def _is_same_file(name: PurePosixPath, other: PurePosixPath) -> bool:
    length = min(len(name.parts), len(other.parts))
    return length > 0 and name.parts[-length:] == other.parts[-length:]
