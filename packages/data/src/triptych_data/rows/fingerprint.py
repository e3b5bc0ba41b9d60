"""Digests of data files, of every byte; those of large files are remembered from one start to the next."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from pathlib import Path

from triptych_data.write_whole import write_whole

__all__ = ["file_fingerprint"]

LARGE_BYTES = 256 << 20
"""From this size on a digest is remembered in the cache folder: reading takes more than a quarter of a second."""
_PIECE_BYTES = 1 << 20
_SETTLED_SECONDS = 2
"""For how long a file must have been left alone, so that a change of its content has another time of change."""


def file_fingerprint(path: Path) -> str:
    """Return a digest of a file's size and of all its bytes, the same for a copy elsewhere.

    The digest of a file of 256 MiB or more is read from the cache folder while path, length and time of change are as
    they were (see `triptych_data.remembered`).
    """
    from triptych_data.remembered import cache_folder, states_of  # imports numpy, and `--help` imports this module

    state = next(iter(states_of([path])))
    _, size, changed = state
    if size < LARGE_BYTES or time.time() - changed / 1e9 < _SETTLED_SECONDS:
        return _digest(path, size)
    folder = cache_folder()
    return _in_this_process(path, state) if folder is None else _remembered(folder, path, state)


def _remembered(folder: Path, path: Path, state: tuple[str, int, int]) -> str:
    from triptych_data.remembered import digest_of

    place = folder / f"{digest_of('file', *state)}.digest"
    with contextlib.suppress(OSError, ValueError):
        known = place.read_text(encoding="ascii")
        if len(known) == 32 and int(known, 16) >= 0:
            return known
    found = _in_this_process(path, state)
    with contextlib.suppress(OSError):  # a folder that refuses is left alone
        write_whole(place, found.encode())
    return found


@functools.lru_cache(maxsize=1024)
def _in_this_process(path: Path, state: tuple[str, int, int]) -> str:
    return _digest(path, state[1])


def _digest(path: Path, size: int) -> str:
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
