"""From what a user names to a row source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.extras import needed
from triptych_data.rows.base import Rows
from triptych_data.rows.jsonl import JsonArrayRows, JsonlRows
from triptych_data.rows.names import matching, meant
from triptych_data.rows.several import SeveralRows
from triptych_data.rows.shards import check_read_whole, check_whole_sets


def open_rows(source: Any, *, split: str = "train", roots: Sequence[Path | None] = ()) -> Rows:
    """Open the rows of JSONL, JSON, parquet or tar files, a saved or hub dataset, a `datasets.Dataset`, or a list of
    these.

    Files may be named by a pattern, a folder of shards by its name, a dataset's split by `name:split`. `roots` are the
    image folders of the members of a list, where they differ.
    """
    if type(source) is dict or (isinstance(source, (list, tuple)) and source and type(source[0]) is dict):
        raise DataError(
            "expected a path or a datasets.Dataset, got rows as they are",
            source="dataset",
            remedy="pass datasets.Dataset.from_list(rows)",
        )
    if isinstance(source, (list, tuple)):
        return _several(source, split, roots)
    if not isinstance(source, (str, Path)):
        from triptych_data.rows.arrow import TableRows

        return TableRows(source)
    name = meant(source)
    if name.kind == "file":
        rows = _file(Path(name.name))
    elif name.kind == "pattern":
        paths = matching(name.name)
        check_whole_sets(paths)
        rows = _files(paths)
    else:
        asked = name.split or (split if split != "train" else None)
        rows = _dataset(name.name, asked, is_address=name.kind == "address")
    return _not_empty(rows, str(source))


def _several(sources: Sequence[Any], split: str, roots: Sequence[Path | None]) -> Rows:
    if not sources:
        raise DataError("expected files, got an empty list", source="dataset", remedy="name one", kind="empty")
    if len(sources) == 1:
        return open_rows(sources[0], split=split)
    own = roots if len(roots) == len(sources) else ()
    return SeveralRows([open_rows(source, split=split) for source in sources], roots=own)


def _files(paths: Sequence[Path]) -> Rows:
    """Files one after the other; parquet shards of the same columns are one table."""
    if len(paths) == 1:
        return _file(paths[0])
    if all(_is_parquet(path) for path in paths):
        from triptych_data.rows.arrow import read_parquet
        from triptych_data.rows.parquet import have_same_columns

        needed("datasets", extra="hub", doing=f"reading the parquet file {paths[0]}")
        if have_same_columns(paths):
            return read_parquet(paths)
    return SeveralRows([_not_empty(_file(path), str(path)) for path in paths])


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _file(path: Path) -> Rows:
    if path.suffix.lower() in (".csv", ".tsv", ".xls", ".xlsx"):
        raise DataError(
            f"expected JSON lines, a JSON array, parquet or tar, got {path.suffix}",
            source=str(path),
            remedy="convert the table, for example with pandas: read_csv(...).to_json('rows.jsonl', orient='records', "
            "lines=True)",
            kind="format",
        )
    with path.open("rb") as stream:
        start = stream.read(4096)
        stream.seek(257)
        magic = stream.read(5)
    if start.startswith(b"PAR1"):
        from triptych_data.rows.arrow import read_parquet

        return read_parquet([path])
    if magic == b"ustar" or path.suffix == ".tar":
        from triptych_data.rows.tar import TarRows

        return TarRows(path)
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        raise DataError(
            "expected JSON lines, a JSON array, parquet or tar, got a file of Arrow",
            source=str(path),
            remedy="name the folder that save_to_disk wrote, or write the rows as parquet",
            kind="format",
        )
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        raise DataError("the file is compressed", source=str(path), remedy="unpack it first", kind="format")
    return JsonArrayRows(path) if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") else JsonlRows(path)


def _dataset(name: str, split: str | None, *, is_address: bool) -> Rows:
    from triptych_data.rows.arrow import load_parquet_at, load_table

    if is_address:
        return load_parquet_at(name)
    shards = _row_files(Path(name))
    if shards and split is not None:
        raise DataError(
            f"expected a dataset with a split {split!r}, got a folder of files ({shards[0].name} to {shards[-1].name})",
            source=name,
            remedy=f"name the files of the split, or read them all without :{split}",
        )
    if not shards:
        return load_table(name, split=split)
    check_whole_sets(shards)
    check_read_whole(Path(name), shards)
    return _files(shards)


def _row_files(folder: Path) -> list[Path]:
    """The JSONL or tar shards of a folder; none where it is a dataset of `datasets`, which lists its own files."""
    if not folder.is_dir() or (folder / "metadata.jsonl").exists():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".tar") and path.is_file())


def _not_empty(rows: Rows, name: str) -> Rows:
    if not len(rows):
        raise DataError("the file contains no rows", source=name, remedy="check that it was written", kind="empty")
    return rows
