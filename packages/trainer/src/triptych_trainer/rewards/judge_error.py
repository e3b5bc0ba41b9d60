"""The error of the reward `judge`."""

from triptych_parser import Refusal

__all__ = ["JudgeError"]


class JudgeError(Refusal, RuntimeError):
    """Says that the judge could not be asked, or that its reply contains no score."""
