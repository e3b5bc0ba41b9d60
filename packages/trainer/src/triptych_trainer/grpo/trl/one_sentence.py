"""Errors of transformers about an option, as one sentence that names the option."""

from collections.abc import Iterator
from contextlib import contextmanager

from triptych_trainer.errors import UsageError

__all__ = ["one_sentence"]


@contextmanager
def one_sentence(options: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of some kinds into a refusal that begins with the options as they were given.

    Raises:
        UsageError: with what the error says.
    """
    try:
        yield
    except kinds as error:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() would quote it
        raise UsageError(f"{options}: {' '.join(str(said).split())}") from error
