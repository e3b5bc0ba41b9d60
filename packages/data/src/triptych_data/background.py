"""Work in a thread that does not keep the program from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_background(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Call a function in a daemon thread.

    The threads of `concurrent.futures` and `asyncio.to_thread` are waited for after Ctrl-C; this one is not.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # handed to whoever waits for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=f"background {function.__name__}").start()
    return future
