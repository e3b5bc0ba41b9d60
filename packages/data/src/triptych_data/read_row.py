"""From a row to its example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from triptych_data.bind import refused, to_example
from triptych_data.example import Example
from triptych_data.formats import FORMATS, Record, RowError, check_format, detect, refuse_no_prompt, sharegpt, trl
from triptych_data.formats.columns import CONVERSATIONS, QUESTIONS, is_empty
from triptych_data.formats.dataset_info import ColumnNames, Names, renamed
from triptych_data.rows import SourceRow


def row_reader(
    *,
    root: Path | None = None,
    format: str = "auto",
    dialect: str = "image",
    no_markers: Literal["error", "first"] | None = None,
    dataset_info: Path | None = None,
    table: str = "",
    needs_prompt: bool = True,
    script: bool = False,
) -> Callable[[SourceRow], Example]:
    """Return a function from a row to its example, for one format or, with "auto", each row by its columns.

    `root` is the folder of image paths, where the row itself names none. `table` is a digest of the table the rows are
    from, under which their examples are known (`Example.key`). Without `needs_prompt` a row that has none gets an empty
    message of the user. With `script` a row with a `prompt` is read as TRL reads it (`trl.read_script`).
    """
    check_format(format)
    columns_of = ColumnNames(dataset_info)

    def read(row: SourceRow) -> Example:
        try:
            columns = columns_of(row) if format in ("auto", "sharegpt") else None
            if not needs_prompt and columns is None and not has_prompt(row.values):
                record = _with_empty_prompt(row.values)
            elif script and not is_empty(row.values.get("prompt")):
                record = trl.read_script(row.values, needs_prompt=needs_prompt)
            else:
                if script:
                    refuse_no_prompt(row.values)
                record = read_record(row.values, format=format, columns=columns)
        except RowError as error:
            raise refused(error, row) from error
        other = _with_images_first(row.values) if columns is None and no_markers is None else None
        if no_markers is not None:
            record = _with_no_markers(record, no_markers)
        return to_example(record, row, root=root, dialect=dialect, table=table, other_format=other)

    return read


def format_reader(format: str) -> Callable[[SourceRow], str]:
    """Return a function from a row that `row_reader` could read to the name of its format."""
    columns_of = ColumnNames()

    def name(row: SourceRow) -> str:
        if format != "auto":
            return format
        if columns_of(row) is not None:
            return "sharegpt"
        return detect(row.values) if has_prompt(row.values) else "trl"  # as `row_reader` reads a row without a prompt

    return name


def read_record(values: Mapping[str, Any], *, format: str = "auto", columns: Names | None = None) -> Record:
    """Return a row's values as a record; raise RowError if they do not have the format's shape."""
    if columns is not None:
        return sharegpt.read(renamed(values, columns))
    return FORMATS[detect(values) if format == "auto" else format](values)


def _with_images_first(values: Mapping[str, Any]) -> str:
    """The format that puts the images of such a row first where it has no markers."""
    return "trl" if all(is_empty(values.get(name)) for name in CONVERSATIONS) else "swift"


def _with_empty_prompt(values: Mapping[str, Any]) -> Record:
    """The record of a row that has no prompt: all else is read as ever, and the user says nothing."""
    record = read_record({**values, "prompt": [{"role": "user", "content": "nothing"}]}, format="trl")
    *before, last = record.messages
    return replace(record, messages=[*before, {**last, "content": ""}])


def has_prompt(values: Mapping[str, Any]) -> bool:
    """Return whether a row contains a prompt in any column that some format reads it from."""
    return any(not is_empty(values.get(name)) for name in (*QUESTIONS, *CONVERSATIONS))


def _with_no_markers(record: Record, no_markers: Literal["error", "first"]) -> Record:
    return replace(record, no_markers=no_markers)
