"""What one look at every row of a table has shown: enough to read any row later without the others."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from PIL import Image

from triptych_data.budget import Size
from triptych_data.errors import DataError
from triptych_data.example import Example, ImageSource
from triptych_data.garbage import garbage_later
from triptych_data.paths import kept_folders
from triptych_data.quarantine import allowed, quarantined, too_many, write_quarantined
from triptych_data.rows import Rows, SourceRow

OnBad = Literal["stop", "skip"]
Result = TypeVar("Result")
_PART_ROWS = 256
_MOST_HELD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """Describes a check that raises DataError for a row that can be read but cannot be used."""

    look: Callable[[Example, Sequence[Size]], object]
    """Given an example and the (height, width) of its images."""
    name: str | None
    """A digest of everything that the result depends on; None if that is not known, so that nothing is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Contains what a look at all rows has found, as plain values, which one process sends to all others."""

    digest: str
    """A digest of the rows and of how they are read."""
    num_rows: int
    kept: Sequence[int]
    """The numbers of the rows that can be used, ascending."""
    num_images: int
    """The images of the kept rows; an image of two rows counts twice."""
    columns: tuple[str, ...]
    """The columns that the format did not read, which rewards get."""
    limited: Sequence[int]
    """The numbers of the kept rows that say how large an image is to be."""
    bad: tuple[DataError, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Part:
    """What was found in some rows one after the other."""

    rows: range
    bad: list[tuple[int, DataError]] = field(default_factory=list)
    num_images: int = 0
    columns: set[str] = field(default_factory=set)
    limited: list[int] = field(default_factory=list)


def look_at_rows(
    rows: Rows,
    read: Callable[[SourceRow], Example],
    *,
    digest: str,
    look_at_images: Callable[[Example], object],
    on_bad: OnBad,
    max_bad: float,
    quarantine: Path | None,
    progress: Callable[[int, int], object],
    threads: int = 1,
) -> Checked:
    """Read every row and look at its images; where a disk of the network lets each file wait, `threads` wait together.

    Raises DataError for the first row that cannot be used, or the first beyond `max_bad` of them, or if all are
    refused.
    """
    bad: list[tuple[int, DataError]] = []
    listed: set[bytes] | None = None
    columns: set[str] = set()
    limited, num_images = array("q"), 0
    limit = allowed(max_bad, len(rows))

    def look(part: range) -> _Part:
        return _look(part, rows, read, look_at_images, stops=on_bad == "stop")

    for part in _in_threads(look, len(rows), threads=threads):
        for index, error in part.bad:
            if on_bad == "stop" or error.kind == "io":
                raise error
            bad.append((index, error))
            if quarantine is not None:
                listed = quarantined(quarantine) if listed is None else listed
                write_quarantined(quarantine, error, listed=listed)
            if len(bad) > limit:
                raise too_many(error, len(bad), total=len(rows), limit=limit) from error
        if len(bad) == len(rows):
            raise too_many(bad[-1][1], len(bad), total=len(rows), limit=len(rows) - 1)
        num_images += part.num_images
        columns |= part.columns
        limited.extend(part.limited)
        progress(part.rows.stop, len(rows))
    return Checked(
        digest=digest,
        num_rows=len(rows),
        kept=_without(len(rows), [index for index, _ in bad]),
        num_images=num_images,
        columns=tuple(sorted(columns)),
        limited=limited,
        bad=tuple(error for _, error in bad),
    )


def _in_threads(look: Callable[[range], _Part], num_rows: int, *, threads: int) -> Iterator[_Part]:
    """The parts in order; at an error, those that wait are given up."""
    parts = [range(start, min(start + _PART_ROWS, num_rows)) for start in range(0, num_rows, _PART_ROWS)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="triptych-rows")
    try:
        yield from pool.map(look, parts)
    finally:
        pool.shutdown(cancel_futures=True)


def _look(
    part: range,
    rows: Rows,
    read: Callable[[SourceRow], Example],
    look_at_images: Callable[[Example], object],
    *,
    stops: bool,
) -> _Part:
    """Look at the rows of a part, many at once: reading rows and opening images each run faster by themselves."""
    found, first = _Part(rows=part), part.start
    with garbage_later():
        while first < part.stop and not any(stops or error.kind == "io" for _, error in found.bad):
            first = _look_at_some(range(first, part.stop), rows, read, look_at_images, found, stops=stops)
    return found


def _look_at_some(
    part: range,
    rows: Rows,
    read: Callable[[SourceRow], Example],
    look_at_images: Callable[[Example], object],
    found: _Part,
    *,
    stops: bool,
) -> int:
    """Read rows until many images are in memory, and then look at their images; the row to go on with."""
    examples: dict[int, Example] = {}
    bad: list[tuple[int, DataError]] = []
    held = 0
    for index, example in _each(part, lambda index: read(rows.row(index)), bad, stops=stops):
        examples[index] = example
        held += sum(map(_held_bytes, example.images))
        if held > _MOST_HELD_BYTES:
            part = range(part.start, index + 1)
            break
    with kept_folders():
        for index, _ in _each(list(examples), lambda index: look_at_images(examples[index]), bad, stops=stops):
            example = examples[index]
            found.num_images += len(example.images)
            found.columns.update(example.extras)
            if any(image.has_limits for image in example.images):
                found.limited.append(index)
    found.bad += sorted(bad, key=lambda entry: entry[0])
    return part.stop


def _held_bytes(image: ImageSource) -> int:
    """Roughly what an image takes that is not in a file; the name of one that is."""
    if isinstance(image.ref, (str, bytes)):
        return len(image.ref)
    return 3 * image.ref.width * image.ref.height if isinstance(image.ref, Image.Image) else 0


def _each(
    indexes: Iterable[int], work: Callable[[int], Result], bad: list[tuple[int, DataError]], *, stops: bool
) -> Iterator[tuple[int, Result]]:
    """(index, result) of each row that the work accepts; the errors of the others go to `bad`."""
    for index in indexes:
        try:
            yield index, work(index)
        except DataError as error:
            bad.append((index, error))
            if stops or error.kind == "io":
                return


def _without(count: int, left_out: Sequence[int]) -> Sequence[int]:
    if not left_out:
        return range(count)
    gone = set(left_out)
    return array("q", (index for index in range(count) if index not in gone))
