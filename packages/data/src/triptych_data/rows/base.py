"""What a row source is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from triptych_data.example import ArchiveMember


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """Contains one row and its place.

    `index` is its number, from 0, in the table that was opened; `source` names it for people ("file.jsonl:3",
    "file.json[2]"). `folder` is the file's; relative image paths start there unless an image root is given, here or for
    all rows. `members` are images packed next to the row.
    """

    values: Mapping[str, Any]
    file: str
    source: str
    index: int
    folder: Path
    image_root: Path | None = None
    members: Mapping[str, ArchiveMember] | None = None


class Rows(Protocol):
    """Describes numbered rows that are read on demand; `files` are those that contain them, none for rows in memory."""

    @property
    def file(self) -> str:
        """The name of the rows, as messages call them."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that contain the rows; none for rows in memory."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int, /) -> SourceRow:
        """Return row `index`, counted from 0."""
        ...

    def source(self, index: int, /) -> str:
        """Return the place of row `index`, as messages name it."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the rows, which is the same for a copy of them."""
        ...
