"""The event loop on which tools and environments are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from typing import Any

__all__ = ["AsyncLoop", "tool_loop"]


class AsyncLoop:
    """Runs an event loop on a thread of its own, so that tools can be awaited wherever the trainer runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def gather(self, calls: Sequence[Awaitable[Any]], *, timeout_seconds: float) -> list[Any]:
        """Await all calls at the same time; the exception of a call is returned in the place of its result."""
        return asyncio.run_coroutine_threadsafe(_gathered(calls, timeout_seconds), self._started()).result()

    def run(self, one: Awaitable[Any], *, timeout_seconds: float) -> Any:
        """Await one object and return its result, or raise its exception."""
        (found,) = self.gather([one], timeout_seconds=timeout_seconds)
        if isinstance(found, BaseException):
            raise found
        return found

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="triptych-tools", daemon=True).start()
        return self._loop


tool_loop = AsyncLoop()
"""The loop of all tools and environments: what one method opens, for example a browser, another may await."""


async def _without_exit(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except SystemExit as error:  # outside of a task's own coroutine it ends the loop of all tools
        return error


async def _gathered(calls: Sequence[Awaitable[Any]], timeout_seconds: float) -> list[Any]:
    async def one(call: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(_without_exit(call), timeout_seconds)
        except TimeoutError as error:
            return TimeoutError(str(error) or f"no answer within {timeout_seconds:g} seconds")
        except asyncio.CancelledError as error:  # raised by the tool itself: nobody cancels a call
            return error

    return await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
