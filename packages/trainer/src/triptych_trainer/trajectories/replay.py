"""Whether environments and tools answer a resumed run as they answered before it was interrupted.

Of the last generation, the checkpoint contains what `reset` showed for each row, as a digest, and the first calls of
one rollout with a digest of their answers. A resumed run asks for both once more, and leaves the random numbers as
they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.calls import Call
from triptych_trainer.trajectories.live import LiveRollout
from triptych_trainer.trajectories.results import pieces_digest

if TYPE_CHECKING:
    from triptych_trainer.trajectories.play import Play

__all__ = ["answers_of", "check_answers", "first_answer"]

_REMEDY = (
    "so that rollouts from now on are not those of an unbroken run; draw what is random from the row, for example from "
    "a column `seed`"
)


def first_answer(live: Sequence[LiveRollout], keys: Sequence[int]) -> dict[str, Any]:
    """Return the first calls of the first rollout that was answered, as plain values; empty where none was."""
    for one, key in zip(live, keys, strict=True):
        if len(one.results) == 1 and one.calls and all(call.unread is None for call in one.calls):
            calls = [[call.name, call.arguments] for call in one.calls]
            return {"key": key, "number": one.number, "calls": calls, "digest": _digest(one.results[0])}
    return {}


def answers_of(play: Play | None) -> dict[str, dict[Any, Any]]:
    """Return what a checkpoint keeps for `check_answers`: parts of a cycle, by name."""
    return {"shown": {}, "answered": {}} if play is None else {"shown": play.shown, "answered": play.answered}


def check_answers(play: Play, parts: Mapping[str, Any], *, begin: Callable[[int, Sequence[Any]], RolloutGroup]) -> None:
    """Ask the environments and tools of an interrupted run again; print a line if something differs from before.

    ``begin`` makes the group of a key without rollouts, from what its environment shows first.
    """
    with _random_numbers_kept():
        difference = _in_reset(play, parts.get("shown", {}))
        if difference is None and parts.get("answered"):
            difference = _in_calls(play, parts["answered"], begin)
    if difference is not None:
        play.say(f"{difference}, {_REMEDY}")


def _in_reset(play: Play, shown: Mapping[int, str]) -> str | None:
    if play.environments is None:
        return None
    for key, digest in shown.items():
        own = play.environments.take(1, play.environment_of(key))
        kind, where = type(own[0]).__name__, f"row {key + 1}"
        if pieces_digest(play.environments.reset(own, play.row_of(key, None), where=where)) != digest:
            return f"`reset` of {kind} shows {where} something else than before the interruption"
    return None


def _in_calls(
    play: Play, answered: Mapping[str, Any], begin: Callable[[int, Sequence[Any]], RolloutGroup]
) -> str | None:
    key, environment, seen = answered["key"], None, []
    if play.environments is not None:
        (environment,) = play.environments.take(1, play.environment_of(key))
        seen = play.environments.reset([environment], play.row_of(key, None), where=f"row {key + 1}")
    one = play.live(begin(key, seen), number=answered["number"], environment=environment)
    one.calls = [Call(name=name, arguments=arguments) for name, arguments in answered["calls"]]
    (outcomes,) = play.outcomes([one])
    if _digest([(outcome.name, outcome.pieces) for outcome in outcomes]) == answered["digest"]:
        return None
    names = " and ".join(dict.fromkeys(f"`{call.name}`" for call in one.calls))
    return f"{one.where}: the same call of {names} is answered with something else than before the interruption"


def _digest(results: Sequence[tuple[str, Sequence[Any]]]) -> str:
    return " ".join(pieces_digest(list(pieces)) for _, pieces in results)


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Put back the global random numbers of Python, numpy and torch: those of the checkpoint have been read."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
