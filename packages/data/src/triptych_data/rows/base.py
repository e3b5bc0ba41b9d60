"""What a row source is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from triptych_data.example import ArchiveMember


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row and where it stands.

    Relative image paths start in `folder` unless an image root is given; `members` are images packed beside the row.
    """

    values: Mapping[str, Any]
    file: str
    line: int
    folder: Path
    members: Mapping[str, ArchiveMember] | None = None

    @property
    def source(self) -> str:
        """The place as "file:line"."""
        return f"{self.file}:{self.line}"


class Rows(Protocol):
    """Numbered rows, read on demand."""

    @property
    def file(self) -> str: ...

    def __len__(self) -> int: ...

    def row(self, index: int, /) -> Row: ...

    def fingerprint(self) -> str: ...


def file_fingerprint(path: Path) -> str:
    """A digest of a file's size, its first and its last megabyte: cheap, and the same for a copy elsewhere."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as stream:
        digest.update(stream.read(1 << 20))
        stream.seek(max(0, size - (1 << 20)))
        digest.update(stream.read(1 << 20))
    return digest.hexdigest()
