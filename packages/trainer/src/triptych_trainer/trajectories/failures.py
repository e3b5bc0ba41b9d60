"""What an environment does wrong, in one sentence: which class and method, in which row and rollout, on which line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych_trainer.errors import UsageError

__all__ = ["EnvironmentFailedError", "one_sentence_of"]


class EnvironmentFailedError(UsageError):
    """Says that a method of an environment raised an exception; the run ends, as rollouts cannot be made up."""

    reason = ""
    """What the method said, and on which line of which file."""


@contextmanager
def one_sentence_of(method: str, *, where: str, remedy: str) -> Iterator[None]:
    """Turn an exception of an environment's method into one sentence; a refusal of our own stays as it is.

    Raises:
        EnvironmentFailedError: begins with ``where`` and the ``method``, and ends with the ``remedy``.
    """
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # an environment is the user's own code, and may fail in any way
        failure = EnvironmentFailedError(f"{where}{method} failed: {_reason(error, with_line=True)}; {remedy}")
        failure.reason = _reason(error, with_line=False)
        raise failure from error


def _reason(error: BaseException, *, with_line: bool) -> str:
    said = " ".join(str(error).split())
    if not with_line:
        return said or type(error).__name__
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}{f': {said}' if said else ''} ({Path(last.filename).name}:{last.lineno})"
