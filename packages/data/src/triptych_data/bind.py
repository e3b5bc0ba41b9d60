"""From a record to an example: markers read and bound, each image kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from triptych_parser import BoundPrompt, ImageMarker, MarkerError, bind, parse

from triptych_data.errors import DataError
from triptych_data.example import Example, ImageSource
from triptych_data.formats import Record, RowError
from triptych_data.formats.record import shown
from triptych_data.image_entry import to_source
from triptych_data.places import (
    check_dialect,
    check_named_order,
    check_owners,
    check_packed,
    check_places,
    has_image_parts,
)
from triptych_data.rows import SourceRow


def to_example(
    record: Record,
    row: SourceRow,
    *,
    root: Path | None = None,
    dialect: str = "image",
    table: str = "",
    other_format: str | None = None,
) -> Example:
    """Return the example of a record; raise DataError if its markers and images do not fit. `table` is a digest of its
    table, `other_format` one that reads the same row and puts images without markers first.
    """
    sample = row.values.get("id")
    name = row.source if sample is None else str(sample)
    try:
        images = [
            to_source(
                value,
                root=root or row.image_root or row.folder,
                row=row,
                what=f"image {number}" if label is None else f"image {number} (named {shown(label)})",
                named=label is not None,
            )
            for number, (value, label) in enumerate(zip(record.images, record.names, strict=True), start=1)
        ]
        images = [replace_name(image, label) for image, label in zip(images, record.names, strict=True)]
        # Images of different keys differ, which is quicker to see than whether two of one key do.
        unique = images if len({image.key for image in images}) == len(images) else list(dict.fromkeys(images))
        if not record.is_literal:
            check_places(record, dialect=dialect)
        check_packed(images, row)
        check_owners(record, images, unique)
        bound = _bound(record, images, row, dialect)
        if len(unique) < len(images):
            bound = _share(bound, [unique.index(image) for image in images], unique)
    except RowError as error:
        raise refused(error, row) from error
    except MarkerError as error:
        raise DataError(
            f"{error.problem}{_numbers(error)}",
            source=row.source,
            id=None if sample is None else str(sample),
            remedy=_remedy(error, record, other_format),
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
        reply=record.reply,
    )


def _bound(record: Record, images: Sequence[ImageSource], row: SourceRow, dialect: str) -> BoundPrompt:
    if record.is_literal or has_image_parts(record):
        dialect = "parts"  # images have their places: what looks like a marker in the text of a part is text
    prompt = parse(record.messages, dialect=dialect, source=row.source)
    if any(record.names):
        check_named_order(record, prompt)
    if images and not prompt.num_markers:
        check_dialect(record, dialect=dialect)
    return bind(prompt, [image.name for image in images], no_markers=record.no_markers)


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


def _remedy(error: MarkerError, record: Record, other_format: str | None) -> str:
    """What to do about a marker or an image; where no marker is there at all, another format may be meant."""
    if other_format is not None and record.images and record.no_markers == "error" and error.got == 0:
        return (
            "add <image> where each belongs, or, if all of them come first, read the rows with --data_format "
            f'{other_format} (format="{other_format}")'
        )
    return error.remedy or "correct the prompt"


def _numbers(error: MarkerError) -> str:
    if error.expected is None and error.got is None:
        return ""
    return f" (expected {error.expected}, got {error.got})"


def replace_name(image: ImageSource, name: str | None) -> ImageSource:
    """Return the same image with a name."""
    return image if name is None else replace(image, name=name)


def refused(error: RowError, row: SourceRow) -> DataError:
    """Return a row's error with its place and id."""
    sample = row.values.get("id")
    name = None if sample is None else str(sample)
    remedy = error.remedy + (error.in_file if Path(row.file).is_file() else "")
    return DataError(error.reason, source=row.source, id=name, remedy=remedy)
