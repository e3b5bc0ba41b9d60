"""Environments: one object for each rollout of a batch, whose public methods are its tools."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.results import Piece, pieces_of
from triptych_trainer.trajectories.toolbox import Tool, toolbox

__all__ = ["Environments", "reward_of", "turn_reward_of"]

NOT_TOOLS = ("reset", "get_reward", "get_turn_reward", "done")


class Environments:
    """Objects of one factory, made when they are needed and used again for later rollouts."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        """Make the first one.

        Raises:
            UsageError: it has no ``reset``, or a method that cannot be described to the model.
        """
        self._factory = factory
        self._pool = [factory()]
        self.kind = type(self._pool[0])
        if not callable(getattr(self._pool[0], "reset", None)):
            raise UsageError(f"environment_factory: {self.kind.__name__} has no method `reset(**row)`")
        self.names = [
            name
            for name, _ in inspect.getmembers(self.kind, predicate=inspect.isfunction)
            if name not in NOT_TOOLS and not name.startswith("_")
        ]
        if self.rewards_turns and not self.rewards:
            raise UsageError(
                f"environment_factory: {self.kind.__name__} has `get_turn_reward`, but no `get_reward`, which says "
                "what the whole rollout was worth; add one, for example the sum over its turns"
            )
        self.tools(self._pool[0])

    def take(self, count: int) -> list[Any]:
        """So many environments; the same ones for every batch."""
        while len(self._pool) < count:
            self._pool.append(self._factory())
        return self._pool[:count]

    def tools(self, environment: Any) -> dict[str, Tool]:
        """The public methods of an environment."""
        return toolbox([getattr(environment, name) for name in self.names])

    @property
    def rewards(self) -> bool:
        """Whether an environment says itself what a rollout was worth."""
        return callable(getattr(self._pool[0], "get_reward", None))

    @property
    def rewards_turns(self) -> bool:
        """Whether an environment also says what each turn was worth."""
        return callable(getattr(self._pool[0], "get_turn_reward", None))

    def reset(self, environments: Sequence[Any], row: Mapping[str, Any], *, where: str) -> list[Piece]:
        """Begin the rollouts of one group; returns what all of them see first.

        Raises:
            UsageError: they do not begin alike, and could not be compared with each other.
        """
        given = _accepted(environments[0].reset, row)
        seen = []
        for environment in environments:
            result = environment.reset(**given)
            seen.append([] if result is None else pieces_of(result, owner=f"{where}: `reset` of {self.kind.__name__}"))
        for k, other in enumerate(seen):
            if list(map(_comparable, other)) != list(map(_comparable, seen[0])):
                raise UsageError(
                    f"{where}: `reset` of {self.kind.__name__} showed rollout 1 and rollout {k + 1} different things, "
                    "but the rollouts of a row are compared with each other; draw what is random from the row, for "
                    "example from a column `seed`"
                )
        return seen[0]


def reward_of(kind: type) -> Callable[..., Any]:
    """The reward function that asks every environment what its rollout was worth; named after the environment."""

    def reward(environments: Sequence[Any], **_: Any) -> list[float | None]:
        return [_value(one.get_reward()) for one in environments]

    reward.__name__ = kind.__name__
    return reward


def turn_reward_of(environment: Any) -> float:
    """What an environment says that the turn whose calls were just done was worth."""
    value = _value(environment.get_turn_reward())
    return 0.0 if value is None else float(value)


def _value(found: Any) -> float | None:
    return asyncio.run(found) if inspect.iscoroutine(found) else found  # type: ignore[no-any-return]


def _accepted(reset: Callable[..., Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a ``reset`` names; all of them where it takes any."""
    parameters = inspect.signature(reset).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return dict(row)
    return {one.name: row[one.name] for one in parameters if one.name in row}


def _comparable(piece: Piece) -> Any:
    return (piece.mode, piece.size, piece.tobytes()) if isinstance(piece, Image.Image) else piece
