"""Trackers that fail are switched off with a warning, because a failure of a tracker must not end a run."""

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from transformers import TrainerCallback, integrations
from triptych_parser.printable import printable

from triptych_trainer.monitor.trackers import ImageLog

__all__ = ["guard_trackers", "tracker_in", "warn_switched_off"]


def guard_trackers(trainer: Any) -> None:
    """Let no callback of ``--report_to`` end the run: one that raises is called no more, and a warning names it.

    The callbacks stay the objects that they are, because others look for them by their type.
    """
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__.startswith(integrations.__name__) or isinstance(callback, ImageLog):
            _guard(callback)


def _guard(callback: TrainerCallback) -> None:
    events = [name for name in dir(callback) if name.startswith("on_") and callable(getattr(callback, name))]
    for name in events:
        setattr(callback, name, _guarded(callback, getattr(callback, name), events))


def _guarded(callback: TrainerCallback, event: Callable[..., Any], events: Iterable[str]) -> Callable[..., Any]:
    @functools.wraps(event)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return event(*args, **kwargs)
        except Exception as error:  # whatever it is, the run does not depend on it
            for name in events:
                setattr(callback, name, _nothing)
            warn_switched_off(type(callback).__name__.removesuffix("Callback"), error)
            return None

    return call


def _nothing(*args: Any, **kwargs: Any) -> None:
    """The event of a callback that is switched off."""


def warn_switched_off(name: str, error: Exception) -> None:
    """Warn that a tracker is switched off for the rest of the run."""
    cause = printable(" ".join(str(error).split()))
    warnings.warn(
        f"the tracker {name} failed and is switched off for the rest of the run ({type(error).__name__}: {cause}); "
        "trainer_state.json still gets the whole log",
        RuntimeWarning,
        stacklevel=2,
    )


def tracker_in(error: Exception, names: Iterable[str]) -> str | None:
    """Return the tracker of ``names`` inside whose package an error was raised, or None for any other error."""
    trace = error.__traceback__
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in names:
            return package
        trace = trace.tb_next
    return None
