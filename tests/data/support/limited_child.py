"""A forked process that answers questions under a limit of address space, each within a time."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


class LimitedChild:
    """Calls ``function`` in a process of its own, which is made at the first question, and again after a death.

    One process answers many questions: to fork the process of the tests copies its page tables, which takes longer
    than to read an image.
    """

    def __init__(self, function: Callable[..., Any], *, limit_bytes: int, limit_seconds: int) -> None:
        self.function, self.limit_bytes, self.limit_seconds = function, limit_bytes, limit_seconds
        self.process: Any = None

    def ask(self, *arguments: Any) -> tuple[str, Any]:
        """What the function returns; ("raised", text), ("hung", None) or ("died", exit code) otherwise."""
        if self.process is None:
            context = multiprocessing.get_context("fork")
            self.questions, other = context.Pipe()
            self.process = context.Process(target=self._answer, args=(other,))
            self.process.start()
            other.close()
        try:
            self.questions.send(arguments)
            if self.questions.poll(self.limit_seconds + 5):
                return self.questions.recv()
            found = "hung", None
        except (EOFError, OSError):
            self.process.join()
            found = "died", self.process.exitcode
        self.end()
        return found

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
            self.questions.close()
            self.process = None

    def _answer(self, questions: Any) -> None:
        self.questions.close()  # the parent's end, which the fork has copied
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + self.limit_bytes, used + self.limit_bytes))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        while True:
            try:
                arguments = questions.recv()
            except EOFError:
                os._exit(0)
            signal.alarm(self.limit_seconds)
            try:
                found = self.function(*arguments)
            except BaseException as error:  # the parent shows it
                found = "raised", repr(error)
            signal.alarm(0)
            questions.send(found)
