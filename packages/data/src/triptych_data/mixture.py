"""Several weighted sources as one."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from typing import overload

from triptych_data.example import Example
from triptych_data.order import Order, mix, quotas
from triptych_data.read import Examples


class Mixture(Sequence[Example]):
    """Rows of several sources in the shares of their weights; no row stands in it twice.

    A source that gives only a part of its rows gives the next part in the next epoch: `in_epoch` is a pure function of
    (seed, epoch, index). Plain indexing is epoch 0.
    """

    def __init__(self, sources: Sequence[Examples], *, weights: Sequence[float] | None = None, seed: int = 0) -> None:
        lengths = [len(source) for source in sources]
        self.sources = tuple(sources)
        self.counts = tuple(quotas(lengths, weights) if weights is not None else lengths)
        self._ends = list(itertools.accumulate(self.counts))
        self._orders = [Order(length=length, seed=mix(seed, number)) for number, length in enumerate(lengths)]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.in_epoch(number, epoch=0) for number in range(*index.indices(len(self)))]
        return self.in_epoch(index if index >= 0 else index + len(self), epoch=0)

    def in_epoch(self, index: int, *, epoch: int) -> Example:
        """Row `index` of the mixture in an epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        source = bisect.bisect_right(self._ends, index)
        place = index - (self._ends[source] - self.counts[source])
        return self.sources[source][self._orders[source](epoch * self.counts[source] + place)]

    @property
    def fingerprint(self) -> str:
        """A digest of the sources and their shares."""
        text = repr([(source.fingerprint, count) for source, count in zip(self.sources, self.counts, strict=True)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
