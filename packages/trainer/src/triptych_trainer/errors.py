"""Errors that no single part of the trainer owns; like all errors for the user they derive from ``Refusal``."""

from collections.abc import Iterator
from contextlib import contextmanager

from triptych_data.errors import UsageError
from triptych_parser import Refusal

__all__ = [
    "IncompatibleVersionError",
    "MissingPackageError",
    "UploadError",
    "UsageError",
    "is_of_network",
    "refusing_values",
]

_CLIENTS = ("httpx", "httpx2", "requests", "huggingface_hub")


class IncompatibleVersionError(Refusal, RuntimeError):
    """Says that an installed library, or a model, is not shaped as the code that hooks into it expects."""


class UploadError(Refusal, RuntimeError):
    """Says that the hub cannot be reached, or does not take what is sent to it."""


def is_of_network(error: BaseException) -> bool:
    """Return whether a client of the hub failed: its libraries have several names, and need not be imported for it."""
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


class MissingPackageError(UsageError, ImportError):
    """Says that an option needs a package that is not installed; in a script it is an ImportError, as TRL's is."""


@contextmanager
def refusing_values() -> Iterator[None]:
    """Make a UsageError of the ValueError by which TRL or transformers refuses the value of an option."""
    try:
        yield
    except Refusal:
        raise
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error
