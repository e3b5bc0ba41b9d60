"""What a name of data means: a file, a folder, a pattern of file names, an address or a dataset of the hub."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych_data.errors import DataError

Kind = Literal["file", "folder", "pattern", "address", "hub"]
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.:-]*)?://")
_SPLIT = re.compile(r"[A-Za-z_][\w.-]*")
SUFFIXES = (".jsonl", ".json", ".parquet", ".tar")
"""The endings of names of data files, for places that know only the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """Contains a name of data, and what it means."""

    kind: Kind
    name: str
    split: str | None = None
    """The split that the name itself asks for, as in `folder:test`."""


def meant(name: str | Path) -> Name:
    """Return what a name means; raise DataError if there is nothing that it could mean.

    What exists is never taken for something else: a file whose name contains a colon or a star is that file.
    """
    text = str(name)
    base, colon, split = text.rpartition(":")
    found = _exists(text)
    if found is None and colon and _SPLIT.fullmatch(split):
        found = _exists(base)
        if (found is not None and found.kind == "folder") or _is_hub_name(base):
            return Name(kind="folder" if found else "hub", name=base, split=split)
        found = None
    if found is not None:
        return found
    if _ADDRESS.match(text):
        return Name(kind="address", name=text)
    if glob.has_magic(text):
        return Name(kind="pattern", name=text)
    if _is_hub_name(text):
        return Name(kind="hub", name=text)
    raise _missing("no such file", text)


def matching(pattern: str) -> list[Path]:
    """Return the files of a pattern in the order of their names; raise DataError if there are none."""
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    if not found:
        raise _missing("no file has such a name", pattern)
    return found


def _missing(reason: str, name: str) -> DataError:
    return DataError(reason, source=name, remedy=f"correct it; it is looked for from {Path.cwd()}", kind="missing")


def _exists(text: str) -> Name | None:
    path = Path(text)
    try:
        if path.is_dir():
            return Name(kind="folder", name=text)
        return Name(kind="file", name=text) if path.exists() else None
    except OSError:  # a name too long for a file
        return None


def _is_hub_name(text: str) -> bool:
    return bool(_HUB_NAME.fullmatch(text)) and not text.endswith(SUFFIXES)
