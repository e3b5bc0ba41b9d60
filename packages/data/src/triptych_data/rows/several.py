"""Several row sources one after the other."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from triptych_data.rows.base import Rows, SourceRow


class SeveralRows:
    """Contains the rows of the first source, then of the second, and so on; every row keeps its own place.

    With `roots` the image paths of each source start in a folder of its own.
    """

    def __init__(self, sources: Sequence[Rows], *, roots: Sequence[Path | None] = ()) -> None:
        self.sources = tuple(sources)
        self._roots = tuple(roots) or (None,) * len(self.sources)
        self.files = tuple(file for source in sources for file in source.files)
        self.file = ", ".join(source.file for source in sources)
        self._ends = list(itertools.accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, index: int, /) -> SourceRow:
        """Return row `index`, counted from 0 over all sources."""
        number, within = self.place(index)
        return replace(self.sources[number].row(within), index=index, image_root=self._roots[number])

    def source(self, index: int, /) -> str:
        """Return the place of row `index` in its own source."""
        number, within = self.place(index)
        return self.sources[number].source(within)

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of the source of row `index`, and the row's number in it."""
        number = bisect.bisect_right(self._ends, index)
        return number, index - (self._ends[number] - len(self.sources[number]))

    def fingerprint(self) -> str:
        """Return a digest of the sources in order."""
        text = " ".join(source.fingerprint() for source in self.sources)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
