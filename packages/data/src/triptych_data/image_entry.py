"""One entry of an image column: path, address, bytes, PIL image, or a mapping of these with limits of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from triptych_data.example import ImageSource
from triptych_data.formats.entry import ENTRY_KEYS, SOURCES, check_keys
from triptych_data.formats.record import RowError, shown
from triptych_data.rows import SourceRow

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*:|//|(?!\.)[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,}/|$")


def to_source(value: Any, *, root: Path, row: SourceRow, what: str = "an image", named: bool = False) -> ImageSource:
    """Return the image of one entry; raise RowError if it is none, and where it has keys that nobody reads.

    Limits of the whole row (columns `min_pixels`, `max_pixels`) apply where an image has none of its own. `named` says
    that the image has a name in the row.
    """
    values, resized = row.values, None
    low = _pixels(values, "min_pixels") if "min_pixels" in values else None
    high = _pixels(values, "max_pixels") if "max_pixels" in values else None
    if not isinstance(value, str) and isinstance(value, Mapping):
        check_keys(value, allowed=ENTRY_KEYS, what=what)
        low, high = _pixels(value, "min_pixels") or low, _pixels(value, "max_pixels") or high
        resized = _resized(value, what)
        value = _one_source(value, what)
    if low is not None and high is not None and low > high:
        raise RowError(
            f"expected min_pixels of {what} to be at most max_pixels ({high}), got {low}",
            remedy="correct the row",
        )
    if not isinstance(value, str):
        value = _plain(value)
    if not isinstance(value, (str, bytes, Image.Image)) or not value:
        raise RowError(
            f"expected {what} as path, bytes or PIL image, got {shown(value)}",
            remedy="give a path for each name of the object, or write the images as a list of paths"
            if named
            else "give one path for each image, or leave it out together with its place in the prompt",
        )
    if row.members is not None and isinstance(value, str) and value in row.members:
        return ImageSource(ref=row.members[value], min_pixels=low, max_pixels=high, resized=resized)
    return ImageSource(ref=value, root=root, min_pixels=low, max_pixels=high, resized=resized)


def _plain(value: Any) -> Any:
    """Bytes of another kind as bytes, a path as text; anything else as it is."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return str(value) if isinstance(value, Path) else value


def _one_source(entry: Mapping[str, Any], what: str) -> Any:
    """The image that a mapping names; a path next to bytes, and an address next to either, say where it came from."""
    given = {name: entry[name] for name in SOURCES if entry.get(name) is not None}
    origins = ("bytes", "url") if _ADDRESS.match(str(given.get("url", ""))) else ("bytes",)
    files = [name for name in given if name not in origins and "bytes" not in given]
    for name in files[1:]:
        if given[name] != given[files[0]]:
            raise RowError(
                f"expected {what} to be one image, got another as {name} than as {files[0]}",
                remedy="remove one of them",
            )
    return next(iter(given.values()), None)


def _resized(entry: Mapping[str, Any], what: str) -> tuple[int, int] | None:
    height, width = _pixels(entry, "resized_height"), _pixels(entry, "resized_width")
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise RowError(f"expected resized_height and resized_width of {what}, got one of them", remedy="give both")
    return height, width


def _pixels(entry: Mapping[str, Any], name: str) -> int | None:
    value = entry.get(name)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 1 or value % 1:
        number = value.strip() if isinstance(value, str) else ""
        raise RowError(
            f"expected {name} to be a number of pixels, 1 or more, got {shown(value)}",
            remedy=f"write it without quotes: {number}"
            if number.isascii() and number.isdigit() and int(number)
            else f"write a number, or remove {name}",
        )
    return int(value)
