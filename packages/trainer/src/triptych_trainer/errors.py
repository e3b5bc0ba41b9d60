"""Errors that no single part of the trainer owns; like all errors for the user they derive from ``Refusal``."""

from collections.abc import Iterator
from contextlib import contextmanager

from triptych_data.errors import UsageError
from triptych_parser import Refusal

__all__ = ["IncompatibleVersionError", "UsageError", "refusing_values"]


class IncompatibleVersionError(Refusal, RuntimeError):
    """Says that an installed library, or a model, is not shaped as the code that hooks into it expects."""


@contextmanager
def refusing_values() -> Iterator[None]:
    """Make a UsageError of the ValueError by which TRL or transformers refuses the value of an option."""
    try:
        yield
    except Refusal:
        raise
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error
