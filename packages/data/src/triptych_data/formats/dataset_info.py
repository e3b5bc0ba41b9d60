"""LLaMA-Factory's `dataset_info.json`: what the columns and tags of a sharegpt file are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.formats.sharegpt import Columns
from triptych_data.rows.base import Row

_NAME = "dataset_info.json"
_COLUMNS = {"messages": "messages", "images": "images", "system": "system"}
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system_role",
    "observation_tag": "observation",
    "function_tag": "function",
}


class ColumnNames:
    """Looks up, once per file, the entry of `dataset_info.json` that names it."""

    def __init__(self, dataset_info: Path | None = None) -> None:
        self._dataset_info = dataset_info
        self._known: dict[str, Columns | None] = {}

    def __call__(self, row: Row) -> Columns | None:
        """The columns of the row's file; None where nothing is said about it."""
        if row.file not in self._known:
            info = self._dataset_info if self._dataset_info is not None else row.folder / _NAME
            self._known[row.file] = columns_in(info, file=row.file) if info.is_file() else None
        return self._known[row.file]


def columns_in(dataset_info: Path, *, file: str) -> Columns | None:
    """The columns that `dataset_info` gives for a file of sharegpt formatting; None where it names no such file."""
    try:
        entries = json.loads(dataset_info.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        source = f"{dataset_info}:{getattr(error, 'lineno', 1)}"
        raise DataError(f"not valid JSON ({error})", source=source, remedy="correct the file", kind="json") from error
    if not isinstance(entries, Mapping):
        return None
    for entry in entries.values():
        if isinstance(entry, Mapping) and _names(entry, dataset_info, file):
            return _columns(entry) if entry.get("formatting") == "sharegpt" else None
    return None


def _names(entry: Mapping[str, Any], dataset_info: Path, file: str) -> bool:
    name = entry.get("file_name")
    return isinstance(name, str) and (dataset_info.parent / name).resolve() == Path(file).resolve()


def _columns(entry: Mapping[str, Any]) -> Columns:
    columns, tags = entry.get("columns") or {}, entry.get("tags") or {}
    given = {field: columns[name] for name, field in _COLUMNS.items() if isinstance(columns.get(name), str)}
    given |= {field: tags[name] for name, field in _TAGS.items() if isinstance(tags.get(name), str)}
    return Columns(**given)
