"""SIGTERM, as schedulers send it before they kill: finish the step, save a checkpoint, leave with exit code 0."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from transformers import TrainerCallback

from triptych_trainer.checkpoints.ranks import any_rank

__all__ = ["StopOnRequest", "StopRequest", "sigterm_as_request"]


class StopRequest:
    """Says whether the run has been asked to stop, and at which step it did."""

    def __init__(self) -> None:
        self.asked = False
        self.stopped_at: int | None = None
        """The last step of a run that was stopped before its end."""

    def ask(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask the run to stop after its current step; a signal handler."""
        self.asked = True


@contextmanager
def sigterm_as_request() -> Iterator[StopRequest]:
    """Turn SIGTERM into a request while the context lasts; outside the main thread signals stay as they are."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, request.ask)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)


class StopOnRequest(TrainerCallback):
    """Ends the training after the step in which any rank was asked to stop, with a checkpoint of that step."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Agree with the other ranks: they get the signal at different times."""
        if any_rank(self.request.asked, device=args.device) and state.global_step < state.max_steps:
            self.request.stopped_at = state.global_step
            control.should_save = True
            control.should_training_stop = True
        return control
