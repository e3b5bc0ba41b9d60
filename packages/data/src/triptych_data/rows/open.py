"""From what a user names to a row source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.rows.base import Rows
from triptych_data.rows.jsonl import JsonArrayRows, JsonlRows

_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


def open_rows(source: Any, *, split: str = "train") -> Rows:
    """Rows of a JSONL, JSON, parquet or tar file, a saved or hub dataset, a `datasets.Dataset`, or a list of these."""
    if isinstance(source, (list, tuple)):
        return _several(source, split)
    if not isinstance(source, (str, Path)):
        from triptych_data.rows.table import TableRows

        return TableRows(source)
    path = Path(source)
    if path.is_dir() or not path.exists():
        return _dataset(source, path, split)
    return _not_empty(_file(path), str(path))


def _several(sources: Any, split: str) -> Rows:
    from triptych_data.rows.several import SeveralRows

    if not sources:
        raise DataError("expected files, got an empty list", source="dataset", remedy="name one", kind="empty")
    return SeveralRows([open_rows(source, split=split) for source in sources])


def _file(path: Path) -> Rows:
    with path.open("rb") as stream:
        start = stream.read(4096)
        stream.seek(257)
        magic = stream.read(5)
    if start.startswith(b"PAR1"):
        from triptych_data.rows.table import read_parquet

        return read_parquet(path)
    if magic == b"ustar" or path.suffix == ".tar":
        from triptych_data.rows.tar import TarRows

        return TarRows(path)
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
        raise DataError("the file is compressed", source=str(path), remedy="unpack it first", kind="format")
    return JsonArrayRows(path) if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") else JsonlRows(path)


def _dataset(source: str | Path, path: Path, split: str) -> Rows:
    if not path.is_dir() and not _HUB_NAME.match(str(source)):
        raise DataError("no such file", source=str(source), remedy="correct the path", kind="missing")
    from triptych_data.rows.table import load_table

    return _not_empty(load_table(str(source), split=split), str(source))


def _not_empty(rows: Rows, name: str) -> Rows:
    if not len(rows):
        raise DataError("the file holds no rows", source=name, remedy="check that it was written", kind="empty")
    return rows
