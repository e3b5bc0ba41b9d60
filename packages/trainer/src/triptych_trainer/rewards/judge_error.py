"""The error of the reward `judge`."""

from triptych_parser import Refusal

__all__ = ["JudgeError"]


class JudgeError(Refusal, RuntimeError):
    """The judge could not be asked, or its reply contains no score."""
