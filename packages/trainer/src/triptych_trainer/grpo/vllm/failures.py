"""What can go wrong between the trainer and vLLM, said in one sentence each."""

from collections.abc import Iterator
from contextlib import contextmanager

from triptych_parser import Refusal

__all__ = ["EngineError", "RolloutMismatchError", "engine_failures"]


class RolloutMismatchError(Refusal, RuntimeError):
    """Says that vLLM tokenized a prompt to other ids than those that are trained on, and names the first difference."""


class EngineError(Refusal, RuntimeError):
    """Says that vLLM stopped, or answered with an error of its own."""


@contextmanager
def engine_failures(what: str, *, doing: str = "sampled") -> Iterator[None]:
    """Say what vLLM's own errors mean for the run; ``what`` is the engine or the server, with its address.

    Raises:
        EngineError: with vLLM's error as its cause.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise EngineError(
            f"{what} failed while it {doing} ({type(error).__name__}: {lines[0]}); nothing was trained on this "
            "generation: repair vLLM and continue from the last checkpoint with --resume_from_checkpoint latest"
        ) from error
