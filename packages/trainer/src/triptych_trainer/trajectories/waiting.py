"""The lines of a log that name a call for which a run waits and that cannot be given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["holding", "watched"]


@contextmanager
def watched(call: str, *, seconds: float, say: Callable[[str], object]) -> Iterator[None]:
    """Run a plain function; ``say`` is told of the ``call`` if it takes longer than this."""
    line = (
        f"{call} has been running for {seconds:g} seconds, and the run waits for it; "
        "only an `async` function is given up after this time"
    )
    timer = threading.Timer(seconds, say, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def holding(call: str) -> str:
    """Return the line about a coroutine that blocks the thread of all coroutines."""
    return (
        f"{call} is `async`, but blocks its thread instead of awaiting, so that the calls of all rollouts and the run "
        "wait for it; let it await, or make it a plain function"
    )
