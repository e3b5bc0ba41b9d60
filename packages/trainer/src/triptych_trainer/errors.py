"""Errors that no single part of the trainer owns; like all errors for the user they derive from ``Refusal``."""

from triptych_data.errors import UsageError
from triptych_parser import Refusal

__all__ = ["IncompatibleVersionError", "UsageError"]


class IncompatibleVersionError(Refusal, RuntimeError):
    """An installed library, or a model, is not shaped as the code that hooks into it expects."""
