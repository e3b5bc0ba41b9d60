"""From a record to an example: markers read and bound, each image kept once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from triptych_parser import BoundPrompt, ImageMarker, MarkerError, bind, parse

from triptych_data.errors import DataError
from triptych_data.example import Example, ImageSource
from triptych_data.formats import Record, RowError
from triptych_data.rows import Row


def to_example(
    record: Record, row: Row, *, root: Path | None = None, dialect: str = "image", table: str = ""
) -> Example:
    """The example of a record; DataError where its markers and images do not fit. `table` is a digest of its table."""
    sample = row.values.get("id")
    name = row.source if sample is None else str(sample)
    try:
        images = [to_source(value, root=root or row.folder, row=row) for value in record.images]
    except RowError as error:
        raise _refused(error.reason, row, error.remedy) from error
    images = [replace_name(image, label) for image, label in zip(images, record.names, strict=True)]
    unique = list(dict.fromkeys(images))
    try:
        bound = _bound(record, images, row, dialect)
        if len(unique) < len(images):
            bound = _share(bound, [unique.index(image) for image in images], unique)
    except MarkerError as error:
        raise DataError(
            f"{error.problem}{_numbers(error)}",
            source=row.source,
            id=None if sample is None else str(sample),
            remedy=error.remedy or "correct the prompt",
            kind="markers",
        ) from error
    return Example(
        id=name,
        prompt=bound,
        images=tuple(unique),
        answer=record.answer,
        extras=record.extras,
        source=row.source,
        row=row.index,
        table=table,
        columns=row.values,
    )


def _bound(record: Record, images: Sequence[ImageSource], row: Row, dialect: str) -> BoundPrompt:
    if any(_is_image_part(part) for message in record.messages for part in _parts(message)):
        dialect = "parts"  # images have their places: what looks like a marker in the text is text
    prompt = parse(record.messages, dialect=dialect, source=row.source)
    return bind(prompt, [image.name for image in images], no_markers=record.no_markers)


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, (list, tuple)) else ()


def _is_image_part(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "image"


def _share(bound: BoundPrompt, position: Sequence[int], unique: Sequence[ImageSource]) -> BoundPrompt:
    """The same prompt over the unique images: every marker addresses its image by number."""
    order = iter(bound.image_order)
    turns = tuple(
        replace(
            turn,
            segments=tuple(
                replace(segment, ref=position[next(order)] + 1) if isinstance(segment, ImageMarker) else segment
                for segment in turn.segments
            ),
        )
        for turn in bound.prompt.turns
    )
    return bind(replace(bound.prompt, turns=turns), [image.name for image in unique])


def _numbers(error: MarkerError) -> str:
    if error.expected is None and error.got is None:
        return ""
    return f" (expected {error.expected}, got {error.got})"


def replace_name(image: ImageSource, name: str | None) -> ImageSource:
    """The same image under a name."""
    return image if name is None else replace(image, name=name)


def to_source(value: Any, *, root: Path, row: Row) -> ImageSource:
    """One entry of an image column: path, address, bytes, PIL image, or a mapping of bytes, path and pixel limits.

    Limits of the whole row (columns `min_pixels`, `max_pixels`) hold where an image has none of its own.
    """
    low, high = _pixels(row.values, "min_pixels"), _pixels(row.values, "max_pixels")
    if isinstance(value, Mapping):
        low, high = _pixels(value, "min_pixels") or low, _pixels(value, "max_pixels") or high
        value = next((value[name] for name in ("bytes", "path", "image", "url") if value.get(name) is not None), None)
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, (str, bytes, Image.Image)):
        raise RowError(
            f"expected an image as path, bytes or PIL image, got {type(value).__name__}", remedy="correct the row"
        )
    if row.members is not None and isinstance(value, str) and value in row.members:
        return ImageSource(ref=row.members[value], min_pixels=low, max_pixels=high)
    return ImageSource(ref=value, root=root, min_pixels=low, max_pixels=high)


def _pixels(entry: Mapping[str, Any], name: str) -> int | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 1:
        raise RowError(f"expected {name} to be a number of pixels, got {value!r}", remedy="correct the row")
    return int(value)


def _refused(reason: str, row: Row, remedy: str) -> DataError:
    sample = row.values.get("id")
    return DataError(
        reason, source=row.source, id=None if sample is None else str(sample), remedy=remedy, kind="record"
    )
