"""Writing the rows that pass a check, so that they pass again: as they stood, in one JSONL file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from triptych_data.errors import UsageError
from triptych_data.example import ArchiveMember, Example
from triptych_data.formats.dataset_info import ColumnNames, renamed
from triptych_data.rows import Rows, SourceRow
from triptych_data.sniff import sniff


def write_passed(
    rows: Rows,
    passed: Sequence[int],
    stream: TextIO,
    *,
    read: Callable[[SourceRow], Example],
    folder: Path,
    names: ColumnNames | None,
    root: Path | None,
) -> None:
    """Append the rows `passed` of `rows` to a JSONL file in `folder`.

    Columns that a `dataset_info.json` renames get the names that need none, bytes and packed images become data URIs.
    UsageError where images are found beside the rows' own file, which the new one is not.
    """
    for index in passed:
        row = rows.row(index)
        if root is None and row.folder.resolve() != folder.resolve():
            _check_paths(read(row), row, folder)
        columns = None if names is None else names(row)
        values = row.values if columns is None else renamed(row.values, columns)
        text = json.dumps(_portable(values, row.members or {}), ensure_ascii=False, default=str)
        stream.write(text + "\n")


def _check_paths(example: Example, row: SourceRow, folder: Path) -> None:
    for image in example.images:
        if isinstance(image.ref, str) and not image.ref.startswith("data:") and "://" not in image.ref:
            raise UsageError(
                f"--fix: expected a file in {row.folder.resolve()}, where the images of {row.source} are looked for, "
                f"got one in {folder.resolve()}: name a file there, or give --image_root"
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
