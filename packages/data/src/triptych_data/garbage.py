"""Putting off the search for garbage while many rows are in memory: none of them is part of a cycle."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_was_enabled = False


@contextmanager
def garbage_later() -> Iterator[None]:
    """Let Python look for cycles of garbage only after the context; many threads may be inside.

    Reading rows makes so many objects that Python looks again and again and finds nothing, which takes a fifteenth of
    the time. Where the search was off before, it stays off.
    """
    global _inside, _was_enabled
    with _lock:
        if not _inside:
            _was_enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _was_enabled:
                gc.enable()
