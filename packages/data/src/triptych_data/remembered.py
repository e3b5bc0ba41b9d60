"""What a start has found out about a table and its images, in a file of the user's cache folder for the next start.

One file belongs to one choice of data files, image folders and image policy:

| array | content |
|---|---|
| `facts` | JSON as bytes: version of this layout, and the plain values of `Remembered` |
| `limited` | the rows whose images have limits of their own |
| `keys`, `sides`, `stamps` | the `HeaderTable` of its images |
| `file_keys`, `file_paths` | the `ImageFiles` of those that lie in files |

Nothing in it is believed without a look: an image counts as seen while its file has the same length and time of change,
and the rows as checked while their own files have, too. A file that cannot be read, for whatever reason, is as good as
none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triptych_data.header_table import HeaderTable
from triptych_data.image_files import ImageFiles

VERSION = 2
LIMIT_BYTES = 1 << 30
"""The size of the folder, beyond which the files that were not used for longest are removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Contains the content of one file."""

    table: str
    """Digest of the rows' files and of how they are read; empty where a row did not pass, and only images are known."""
    headers: HeaderTable
    files: ImageFiles
    num_rows: int = 0
    num_images: int = 0
    columns: tuple[str, ...] = ()
    limited: Sequence[int] = ()


def cache_folder() -> Path | None:
    """Return the folder `TRIPTYCH_CACHE`, or `triptych` in the user's cache folder, or None if `TRIPTYCH_CACHE` is
    "off".
    """
    named = os.environ.get("TRIPTYCH_CACHE")
    if named is not None:
        return None if named in ("", "off") else Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych"


def load(path: Path) -> Remembered | None:
    """Return what a file contains, or None if it does not exist, is damaged, or was written by another version."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            headers = HeaderTable(keys=arrays["keys"], sides=arrays["sides"], stamps=arrays["stamps"])
            files = ImageFiles(arrays["file_keys"].tolist(), arrays["file_paths"].tobytes())
            limited = arrays["limited"].tolist()
        if facts["version"] != VERSION or not _fits(headers, files):
            return None
        return Remembered(
            table=str(facts["table"]),
            headers=headers,
            files=files,
            num_rows=int(facts["num_rows"]),
            num_images=int(facts["num_images"]),
            columns=tuple(facts["columns"]),
            limited=limited,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _fits(headers: HeaderTable, files: ImageFiles) -> bool:
    """Whether the arrays belong together."""
    count = len(headers)
    ordered = bool((headers.keys[1:] > headers.keys[:-1]).all())
    shapes = headers.sides.shape == headers.stamps.shape == (count, 2) and headers.keys.dtype == np.uint64
    found = np.isin(np.asarray(files.keys, np.uint64), headers.keys, kind="sort").all()
    return ordered and shapes and bool(found) and files.paths.count(b"\0") == len(files)


def save(path: Path, remembered: Remembered) -> None:
    """Write a file whole or not at all, and keep the folder within its bound; a folder that refuses is left alone."""
    plain = {name: getattr(remembered, name) for name in ("table", "num_rows", "num_images", "columns")}
    facts = json.dumps({"version": VERSION, **plain}).encode()
    headers, files = remembered.headers, remembered.files
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as stream:
                np.savez(
                    stream,
                    facts=np.frombuffer(facts, np.uint8),
                    limited=np.asarray(remembered.limited, np.int64),
                    keys=headers.keys,
                    sides=headers.sides,
                    stamps=headers.stamps,
                    file_keys=np.asarray(files.keys, np.uint64),
                    file_paths=np.frombuffer(bytes(files.paths), np.uint8),
                )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _forget_oldest(path.parent)


def touch(path: Path) -> None:
    """Note that a file was used."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _forget_oldest(folder: Path) -> None:
    states = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    total = sum(state.st_size for _, state in states)
    for path, state in sorted(states, key=lambda entry: entry[1].st_mtime):
        if total <= LIMIT_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= state.st_size


def states_of(files: Sequence[Path]) -> Iterator[tuple[str, int, int]]:
    """Yield (absolute path, length, time of change) of each file. Raises OSError."""
    for file in files:
        status = file.stat()
        yield str(file.absolute()), status.st_size, status.st_mtime_ns


@functools.cache
def code_digest() -> str:
    """Return a digest of the code that reads the rows; rows that other code has accepted are looked at again."""
    import triptych_parser

    folders = [Path(__file__).parent, Path(str(triptych_parser.__file__)).parent]
    return digest_of([list(states_of(sorted(folder.rglob("*.py")))) for folder in folders])


def digest_of(*parts: object) -> str:
    """Return a name for values, by their texts."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
