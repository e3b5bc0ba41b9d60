"""Sizes of images and the states of their files, as arrays: 32 bytes for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych_data.budget import Size
from triptych_data.fetch import Stamp

Seen = tuple[Size, Stamp | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeaderTable:
    """Contains what was seen of many images, found by a number that represents where each image is read from."""

    keys: NDArray[np.uint64]
    """Sorted, each once."""
    sides: NDArray[np.uint32]
    """[images, 2]: height and width as decoded."""
    stamps: NDArray[np.int64]
    """[images, 2]: length in bytes and st_mtime_ns of the file; zeros where there is no file."""

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, seen: Mapping[int, Seen]) -> HeaderTable:
        """Return the table of images by their keys."""
        keys = np.fromiter(seen, np.uint64, len(seen))
        order = np.argsort(keys)
        sides = np.array([size for size, _ in seen.values()], np.uint32).reshape(-1, 2)
        stamps = np.array([_numbers(stamp) for _, stamp in seen.values()], np.int64).reshape(-1, 2)
        return cls(keys=keys[order], sides=sides[order], stamps=stamps[order])

    def find(self, key: int) -> Seen | None:
        """Return what was seen of one image, or None for an image that is not in the table."""
        if not len(self.keys):
            return None
        place = int(self.keys.searchsorted(np.uint64(key)))
        if place == len(self.keys) or int(self.keys[place]) != key:
            return None
        (height, width), (num_bytes, changed_ns) = self.sides[place].tolist(), self.stamps[place].tolist()
        return (height, width), Stamp(num_bytes=num_bytes, changed_ns=changed_ns) if changed_ns else None

    def only(self, chosen: NDArray[Any]) -> HeaderTable:
        """Return the rows of the table for which `chosen` is true, or those at its places in ascending order."""
        return HeaderTable(keys=self.keys[chosen], sides=self.sides[chosen], stamps=self.stamps[chosen])

    def joined(self, other: HeaderTable) -> HeaderTable:
        """Return both tables as one; for an image that is in both, the entry of this table is kept."""
        if not len(other) or not len(self):
            return self if len(self) else other
        keys, first = np.unique(np.concatenate((self.keys, other.keys)), return_index=True)
        sides = np.concatenate((self.sides, other.sides))[first]
        stamps = np.concatenate((self.stamps, other.stamps))[first]
        return HeaderTable(keys=keys, sides=sides, stamps=stamps)

    def without(self, key: int) -> HeaderTable:
        """Return the table without one image, or the table itself if the image is not in it."""
        return self if self.find(key) is None else self.only(self.keys != np.uint64(key))

    def sizes(self) -> list[Size]:
        """Return every (height, width) that some image has, each once."""
        return [(height, width) for height, width in np.unique(self.sides, axis=0).tolist()]


EMPTY = HeaderTable(keys=np.empty(0, np.uint64), sides=np.empty((0, 2), np.uint32), stamps=np.empty((0, 2), np.int64))


def _numbers(stamp: Stamp | None) -> tuple[int, int]:
    return (0, 0) if stamp is None else (stamp.num_bytes, stamp.changed_ns)
