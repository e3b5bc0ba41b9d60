"""The event loop on which tools and environments are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["AsyncLoop", "tool_loop"]


class AsyncLoop:
    """Runs an event loop on a thread of its own, so that tools can be awaited wherever the trainer runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def gather(
        self,
        calls: Sequence[Awaitable[Any]],
        *,
        timeout_seconds: float,
        blocked: Callable[[int], object] = lambda number: None,
    ) -> list[Any]:
        """Await all calls at the same time; the exception of a call is returned in the place of its result.

        A call that has no result after this time is cancelled, has the same time once more to clean up, and is then
        left alone. ``blocked`` is told the number of a call that holds the thread of all calls for longer than that.
        """
        loop = self._started()
        found = asyncio.run_coroutine_threadsafe(_gathered(calls, timeout_seconds), loop)
        while True:
            try:
                return found.result(timeout_seconds + 1)
            except TimeoutError:  # a call cannot raise it: its exceptions are results
                holding = asyncio.current_task(loop)
                if holding is not None and holding.get_name().isdecimal():
                    blocked(int(holding.get_name()))
                    return found.result()

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
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(_without_exit(call), name=str(k)) for k, call in enumerate(calls)]
    end = loop.time() + timeout_seconds
    _, late = await asyncio.wait(tasks, timeout=timeout_seconds)
    if late and loop.time() - end > timeout_seconds / 10:  # a call held the thread, and so took time from all others
        await asyncio.wait(late, timeout=timeout_seconds)
    late = {task for task in tasks if not task.done()}
    for task in late:
        task.cancel()
        task.add_done_callback(_ended)
    if late:
        await asyncio.wait(late, timeout=timeout_seconds)
    given_up = f"no answer within {timeout_seconds:g} seconds"
    return [TimeoutError(given_up) if task in late else _ended(task) for task in tasks]


def _ended(task: asyncio.Task[Any]) -> Any:
    """The result of a task, or its exception; a task is cancelled if its call cancels itself."""
    if task.cancelled():
        return asyncio.CancelledError()
    error = task.exception()
    return task.result() if error is None else error
