"""A computation in a separate process: what it replaces while it runs is never replaced in a process that trains."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from triptych_parser import Refusal

__all__ = ["ApartError", "computed_apart"]

Result = TypeVar("Result")


class ApartError(Refusal, RuntimeError):
    """Says that the process has no result, and why."""


def computed_apart(work: Callable[[], Result], *, timeout_seconds: float = 120.0) -> Result:
    """Return what ``work`` returns in a child process, which never touches an accelerator.

    On Linux the child is a fork and shares the imports and the memory of this process; elsewhere it is a new process,
    and ``work`` has to be picklable. The result is pickled.

    Raises:
        ApartError: the work failed, its process died, or it took longer than ``timeout_seconds``.
    """
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are threads: see `_work`
        process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_seconds):
            raise ApartError(f"it took more than {timeout_seconds:g} seconds")
        result, failure = receiver.recv()
    except EOFError as error:
        process.join()
        raise ApartError(f"its process ended with code {process.exitcode}") from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if failure is not None:
        raise ApartError(failure)
    return result  # type: ignore[no-any-return]


def _work(work: Callable[[], Any], sender: Connection) -> None:
    """Compute in the child on one thread: the pools of threads that this process had are not in its fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends the child
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    try:
        outcome: tuple[Any, str | None] = (work(), None)
    except Exception as error:  # its text goes to the parent, which says it
        outcome = (None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    sender.send(outcome)
    sender.close()
