"""Which images were decoded, and a digest of their bytes: 40 bytes of memory for each once settled."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from numpy.typing import NDArray

from triptych_data.addresses import is_address, is_data_address
from triptych_data.example import ArchiveMember, ImageSource
from triptych_data.fetch import Stamp

USED = np.dtype([("name", "<u8"), ("num_bytes", "<i8"), ("changed_ns", "<i8"), ("digest", "<u8"), ("is_sure", "<u8")])
"""Its `name_of`, its file's length and time of change, a digest of its bytes; `is_sure` is 0 if two share the name."""
_SETTLED_FROM = 8192


class UsedImages:
    """Remembers the images of files and archives that a run has decoded so far; threads may add to it.

    Images that lie in the rows themselves are not noted: their bytes are part of their keys.
    """

    def __init__(self) -> None:
        self._settled = np.empty(0, USED)
        self._recent: dict[int, tuple[int, int, int, int, int]] = {}
        self._lock = threading.Lock()

    def note(self, source: ImageSource, data: bytes, stamp: Stamp | None) -> None:
        """Remember that an image was decoded from these bytes, from a file in this state."""
        if stamp is None or (name := name_of(source)) is None:
            return
        digest = digest_of_bytes(data)
        with self._lock:
            before = self._recent.get(name)
            is_sure = before is None or (before[3] == digest and bool(before[4]))
            self._recent[name] = (name, stamp.num_bytes, stamp.changed_ns, digest, int(is_sure))
            if len(self._recent) >= _SETTLED_FROM:
                self._settle()

    def add(self, table: NDArray[np.void]) -> None:
        """Take over what another process has noted; what was noted here is newer."""
        with self._lock:
            self._settle()
            self._settled = join_tables(self._settled, table)

    @property
    def table(self) -> NDArray[np.void]:
        """All that was noted, sorted by name, each name once."""
        with self._lock:
            self._settle()
            return self._settled

    def _settle(self) -> None:
        if self._recent:
            recent = np.array(list(self._recent.values()), USED)
            self._settled = join_tables(recent, self._settled)
            self._recent = {}


def join_tables(newer: NDArray[np.void], older: NDArray[np.void]) -> NDArray[np.void]:
    """Return both tables as one; for an image in both, the newer entry is kept, and it is sure only if their bytes are
    equal.
    """
    both = np.concatenate((newer, older))
    names, first = np.unique(both["name"], return_index=True)
    found = both[first]
    places = np.searchsorted(names, both["name"])
    differs = (both["digest"] != found["digest"][places]) | (both["is_sure"] == 0)
    found["is_sure"][places[differs]] = 0
    return found


def name_of(source: ImageSource) -> int | None:
    """Return a number for the place of an image as its row writes it, equal wherever its folder is, or None for images
    without a place.
    """
    ref = source.ref
    if isinstance(ref, ArchiveMember):
        text = repr((ref.archive.name, ref.name, ref.offset, ref.size))
    elif isinstance(ref, str) and not is_data_address(ref) and not is_address(ref):
        text = ref
    else:
        return None
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def digest_of_bytes(data: bytes) -> int:
    """Return a number for the bytes of an encoded image."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
