"""Reading a dataset: every row checked before training, then parsed on demand."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from triptych_data.bind import refused, to_example
from triptych_data.budget import Size
from triptych_data.errors import DataError, ImageError
from triptych_data.example import Example, ImageSource
from triptych_data.formats import FORMATS, Record, RowError, check_format, detect, sharegpt
from triptych_data.formats.dataset_info import ColumnNames, Names, renamed
from triptych_data.header import probe_image
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.quarantine import allowed, too_many, write_quarantined
from triptych_data.rows import Row, Rows, open_rows
from triptych_data.seen_headers import SeenHeaders

OnBad = Literal["stop", "skip"]


class Examples(Sequence[Example]):
    """The good rows of a source, as a list; rows are parsed when they are asked for. `bad` holds the refused ones."""

    def __init__(
        self,
        rows: Rows,
        read: Callable[[Row], Example],
        *,
        kept: Sequence[int],
        bad: Sequence[DataError],
        digest: str,
    ) -> None:
        self.rows = rows
        self._digest = digest
        self.bad = tuple(bad)
        self._read = read
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self._read(self.rows.row(row)) for row in self._kept[index]]
        return self._read(self.rows.row(self._kept[index]))

    def __iter__(self) -> Iterator[Example]:
        return (self._read(self.rows.row(row)) for row in self._kept)

    @property
    def fingerprint(self) -> str:
        """A digest of the rows, of how they are read and of which are kept: equal for equal data wherever it lies.

        It was taken when the rows were read: of a file's size and parts of its bytes, of a table's own digest.
        """
        digest = hashlib.blake2b(self._digest.encode(), digest_size=16)
        digest.update(array("q", self._kept).tobytes())
        return digest.hexdigest()


def read_examples(
    path: Any,
    *,
    image_root: str | Path | None = None,
    format: str = "auto",
    on_bad: OnBad = "stop",
    max_bad: float = 0.01,
    policy: ImagePolicy = DEFAULT_POLICY,
    check_images: bool = True,
    dialect: str = "image",
    no_markers: Literal["error", "first"] | None = None,
    split: str = "train",
    dataset_info: Path | None = None,
    quarantine: Path | None = None,
    seen: SeenHeaders | None = None,
) -> Examples:
    """Read a JSONL, JSON, parquet or tar file, or a `datasets.Dataset`, and check every row.

    `path` may also be a list of such files. Image paths are relative to `image_root`, by default each file's folder.
    `check_images` opens each image and reads its header, and `seen` remembers what it says. With `on_bad="skip"`
    refused rows are left out, up to the
    share `max_bad` of all rows (a number of rows where it is 1 or more), and listed in the file `quarantine`.
    `no_markers` overrides what zero markers with images mean in the format. A LLaMA-Factory `dataset_info.json` is
    found beside the file, or named.
    Raises DataError, whose message names file:line, the id and the remedy.
    """
    rows = open_rows(path, split=split)
    digest = _digest(rows.fingerprint(), format, dialect, no_markers)
    reader = row_reader(
        root=None if image_root is None else Path(image_root),
        format=format,
        dialect=dialect,
        no_markers=no_markers,
        dataset_info=dataset_info,
        table=_digest(digest, rows.file, image_root, dataset_info),
    )
    kept, bad = array("q"), []
    limit = allowed(max_bad, len(rows))
    for index in range(len(rows)):
        try:
            example = reader(rows.row(index))
            if check_images:
                header_sizes(example, policy=policy, seen=seen)
        except DataError as error:
            if on_bad == "stop" or error.kind == "io":
                raise
            bad.append(error)
            if quarantine is not None:
                write_quarantined(quarantine, error)
            if len(bad) > limit:
                raise too_many(error, len(bad), total=len(rows), limit=limit) from error
        else:
            kept.append(index)
    return Examples(rows, reader, kept=kept, bad=bad, digest=digest)


def row_reader(
    *,
    root: Path | None = None,
    format: str = "auto",
    dialect: str = "image",
    no_markers: Literal["error", "first"] | None = None,
    dataset_info: Path | None = None,
    table: str = "",
) -> Callable[[Row], Example]:
    """A function from a row to its example, for one format or, with "auto", each row by its columns.

    `table` is a digest of the table the rows are from, under which their examples are known (`Example.key`).
    """
    check_format(format)
    columns_of = ColumnNames(dataset_info)

    def read(row: Row) -> Example:
        try:
            columns = columns_of(row) if format in ("auto", "sharegpt") else None
            record = read_record(row.values, format=format, columns=columns)
        except RowError as error:
            raise refused(error, row) from error
        if no_markers is not None:
            record = _with_no_markers(record, no_markers)
        return to_example(record, row, root=root, dialect=dialect, table=table)

    return read


def read_record(values: Mapping[str, Any], *, format: str = "auto", columns: Names | None = None) -> Record:
    """A row's values as a record; RowError where they do not have the format's shape."""
    if columns is not None:
        return sharegpt.read(renamed(values, columns))
    return FORMATS[detect(values) if format == "auto" else format](values)


def header_sizes(
    example: Example, *, policy: ImagePolicy = DEFAULT_POLICY, seen: SeenHeaders | None = None
) -> tuple[Size, ...]:
    """(height, width) of each image of an example, from its header; DataError names the first that cannot be used.

    With `seen` a header that was read before is not read again.
    """
    sizes = []
    for number, image in enumerate(example.images, start=1):
        try:
            sizes.append(probe_image(image, policy=policy) if seen is None else seen.size(image))
        except ImageError as error:
            raise image_in_example(error, example, image, number) from error
    return tuple(sizes)


def image_in_example(error: ImageError, example: Example, image: ImageSource, number: int) -> DataError:
    """An image's error with the row it belongs to."""
    name = f" ({image.name})" if image.name else ""
    return DataError(
        f"image {number} of {len(example.images)}{name}, {error.image}: {error.reason}",
        source=example.source,
        id=None if example.id == example.source else example.id,
        remedy=error.remedy,
        kind=error.kind,
    )


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _with_no_markers(record: Record, no_markers: Literal["error", "first"]) -> Record:
    return replace(record, no_markers=no_markers)
