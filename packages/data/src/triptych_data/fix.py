"""Writing some rows of a table, such as those that pass a check, so that they are read again: in one JSONL file."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from triptych_data.addresses import is_data_address
from triptych_data.errors import UsageError
from triptych_data.example import ArchiveMember, Example
from triptych_data.examples import Examples
from triptych_data.formats.dataset_info import ColumnNames, renamed
from triptych_data.rows import Rows, SourceRow
from triptych_data.rows.jsonl import JsonArrayRows, JsonlRows
from triptych_data.rows.several import SeveralRows
from triptych_data.sniff import sniff
from triptych_data.write_whole import check_target


def write_chosen(
    examples: Examples,
    chosen: Sequence[int],
    target: Path,
    *,
    format: str,
    roots: Sequence[Path | None],
    option: str,
) -> None:
    """Write some of the examples, by their places, as the rows that they were read from; the file appears whole.

    Raises:
        UsageError: the file is one of those that were read, or the rows' images would not be found from it.
    """
    folders = {root.resolve() for root in roots if root is not None}
    if len(folders) > 1:
        raise UsageError(
            f"{option} {target}: expected one image folder for all files, got {len(folders)}; run the command once "
            "for each of them"
        )
    check_target(target, option=option, read=examples.rows.files)
    with replacing(target) as stream:
        write_passed(
            examples.rows,
            [examples.row_numbers[place] for place in chosen],
            stream,
            read=examples.read,
            folder=target.parent,
            names=ColumnNames() if format in ("auto", "sharegpt") else None,
            root=next(iter(folders), None),
            option=option,
        )


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of `target` once everything is written, and is removed if that fails."""
    partial = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_passed(
    rows: Rows,
    passed: Sequence[int],
    stream: TextIO,
    *,
    read: Callable[[SourceRow], Example],
    folder: Path,
    names: ColumnNames | None,
    root: Path | None,
    option: str = "--fix",
) -> None:
    """Append the rows `passed` of `rows` to a JSONL file in `folder`.

    A row of a JSONL file is copied byte for byte, and so is one of a JSON array that lies on one line. Columns that a
    `dataset_info.json` renames get the names that need none, bytes and packed images become data URIs. UsageError,
    which names `option`, where images are found next to the rows' own file, which the new one is not.
    """
    for index in passed:
        row = rows.row(index)
        if root is None and row.image_root is None and row.folder.resolve() != folder.resolve():
            _check_paths(read(row), row, folder, option=option)
        columns = None if names is None else names(row)
        text = _as_it_stands(rows, index) if columns is None else None
        if text is None:
            values = row.values if columns is None else renamed(row.values, columns)
            text = json.dumps(_portable(values, row.members or {}), ensure_ascii=False, default=str) + "\n"
        stream.write(text)


def _as_it_stands(rows: Rows, index: int) -> str | None:
    """The line of a row as its file contains it; None for a row that is no line."""
    if isinstance(rows, SeveralRows):
        number, within = rows.place(index)
        return _as_it_stands(rows.sources[number], within)
    if not isinstance(rows, (JsonlRows, JsonArrayRows)):
        return None
    line, end, rest = rows.line(index).decode().removeprefix("\ufeff").partition("\n")
    return None if rest.strip() else line + (end or "\n")


def _check_paths(example: Example, row: SourceRow, folder: Path, *, option: str) -> None:
    for image in example.images:
        if isinstance(image.ref, str) and not is_data_address(image.ref) and "://" not in image.ref:
            raise UsageError(
                f"{option}: expected a file in {row.folder.resolve()}, where the images of {row.source} are looked "
                f"for, got one in {folder.resolve()}: name a file there, or give --image_root"
            )


def _portable(value: Any, members: Mapping[str, ArchiveMember]) -> Any:
    """The value with bytes, and the names of packed images, as data URIs."""
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), (bytes, bytearray)):
            rest = {key: inner for key, inner in value.items() if key not in ("bytes", "path") and inner is not None}
            uri = _data_uri(bytes(value["bytes"]))
            return {**rest, "image": uri} if rest else uri
        return {key: _portable(inner, members) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(inner, members) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return _data_uri(bytes(value))
    if isinstance(value, str) and value in members:
        member = members[value]
        with member.archive.open("rb") as stream:
            stream.seek(member.offset)
            return _data_uri(stream.read(member.size))
    return value


def _data_uri(data: bytes) -> str:
    return f"data:image/{sniff(data[:32]).lower()};base64,{base64.b64encode(data).decode()}"
