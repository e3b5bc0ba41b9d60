"""Calls that wait for a server during the training, in threads that never keep a program from ending."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

__all__ = ["InOrder", "begin_work"]

T = TypeVar("T")
Task = tuple[Callable[[], Any], "Future[Any]"]


def begin_work(work: Callable[[], T]) -> "Future[T]":
    """Begin a piece of work in a thread of its own.

    Threads of ``concurrent.futures`` are waited for when Python ends, so that a server that never answers would keep an
    interrupted run from ending.
    """
    future: Future[T] = Future()
    Thread(target=_do, args=(work, future), daemon=True).start()
    return future


class InOrder:
    """Does pieces of work one after the other on one thread, in the order in which they are given."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._thread: Thread | None = None

    def do(self, work: Callable[[], T]) -> "Future[T]":
        """Do the work after everything that was given before."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._tasks.put((work, future))
        return future

    def wait(self) -> None:
        """Wait until everything that was given is done, whether it succeeded or not."""
        if self._thread is not None:
            self.do(lambda: None).result()

    def _run(self) -> None:
        while True:
            _do(*self._tasks.get())


def _do(work: Callable[[], Any], future: "Future[Any]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
