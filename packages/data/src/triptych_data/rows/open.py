"""From what a user names to a row source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.rows.base import Rows
from triptych_data.rows.jsonl import JsonArrayRows, JsonlRows


def open_rows(source: Any, *, split: str = "train") -> Rows:
    """Rows of a JSONL, JSON, parquet or tar file, of a saved or hub dataset, or of a `datasets.Dataset`."""
    if not isinstance(source, (str, Path)):
        from triptych_data.rows.table import TableRows

        return TableRows(source)
    path = Path(source)
    if not path.exists():
        raise DataError("no such file", source=str(source), remedy="correct the path", kind="missing")
    rows: Rows = JsonArrayRows(path) if _begins_array(path) else JsonlRows(path)
    if not len(rows):
        raise DataError("the file holds no rows", source=str(path), remedy="check that it was written", kind="empty")
    return rows


def _begins_array(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"[")
