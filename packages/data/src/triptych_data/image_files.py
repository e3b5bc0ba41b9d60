"""Where images lie, by their keys, and whether the files are still those that were seen."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from triptych_data.header_table import HeaderTable

_PART, _THREADS = 4096, 8


class ImageFiles:
    """Contains keys and paths of images, in little more memory than their bytes take; threads may add to it."""

    def __init__(self, keys: Iterable[int] = (), paths: bytes = b"") -> None:
        """`paths` are the names as the file system has them, each ended by a NUL."""
        self.keys = array("Q", keys)
        self.paths = bytearray(paths)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: int, path: str) -> None:
        """Note where an image lies."""
        with self._lock:
            self.keys.append(key)
            self.paths += os.fsencode(path) + b"\0"

    def unchanged(self, table: HeaderTable) -> HeaderTable:
        """Return the part of a table whose files are as they were seen; images that lie in no file are part of it.

        Threads ask for the states of the files, because on a file system of the network each question takes a while.
        """
        paths = bytes(self.paths).split(b"\0")[:-1]
        parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = [state for part in pool.map(_states, parts) for state in part]
        places = np.searchsorted(table.keys, np.asarray(self.keys, np.uint64))
        same = np.ones(len(table), bool)
        same[places] = (table.stamps[places] == np.array(found, np.int64).reshape(-1, 2)).all(axis=1)
        return table.only(same)


def _states(paths: Sequence[bytes]) -> list[tuple[int, int]]:
    """Length and time of change of each file; (-1, -1) for a file that does not exist."""
    states = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            states.append((-1, -1))
        else:
            states.append((status.st_size, status.st_mtime_ns))
    return states
