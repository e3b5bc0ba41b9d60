"""Several row sources behind one another."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

from triptych_data.rows.base import Row, Rows


class SeveralRows:
    """The rows of the first source, then of the second, and so on; every row keeps its own place."""

    def __init__(self, sources: Sequence[Rows]) -> None:
        self.sources = tuple(sources)
        self.file = ", ".join(source.file for source in sources)
        self._ends = list(itertools.accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, index: int, /) -> Row:
        """Row `index` from 0 over all sources."""
        source, within = self._place(index)
        return replace(source.row(within), index=index)

    def source(self, index: int, /) -> str:
        """The place of row `index` in its own source."""
        source, within = self._place(index)
        return source.source(within)

    def _place(self, index: int) -> tuple[Rows, int]:
        number = bisect.bisect_right(self._ends, index)
        source = self.sources[number]
        return source, index - (self._ends[number] - len(source))

    def fingerprint(self) -> str:
        """A digest of the sources in order."""
        text = " ".join(source.fingerprint() for source in self.sources)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
