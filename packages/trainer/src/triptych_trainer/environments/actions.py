"""The actions of an environment of Gymnasium, and how the words of a model become an action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from triptych_trainer.errors import UsageError

__all__ = ["ActionSet", "action_set"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionSet:
    """Contains the actions of one environment."""

    space: Any
    names: tuple[str, ...] = ()
    """The names of discrete actions, in order; empty if an action is a list of numbers."""
    first: int = 0
    """The number of the first discrete action."""

    @property
    def listed(self) -> str:
        """The actions as the model reads them."""
        if not self.names:
            return f"lists of {int(np.prod(self.space.shape))} numbers of {self.space}"
        numbered = enumerate(self.names, self.first)
        return ", ".join(str(number) if name == str(number) else f"{name} ({number})" for number, name in numbered)

    def read(self, actions: Any, *, most: int) -> list[Any]:
        """Return the first ``most`` actions as the environment takes them; all are checked before one is done.

        Raises:
            ValueError: one is none; says which there are, for the model to read.
        """
        if not isinstance(actions, (list, tuple)) or not actions:
            raise ValueError(f"actions must be a list of actions, got {actions!r}; the actions are {self.listed}")
        return [self._read(action) for action in actions[:most]]

    def _read(self, action: Any) -> Any:
        if not self.names:
            return self._numbers(action)
        word = str(action).strip().lower()
        known = {name.lower(): number for number, name in enumerate(self.names, self.first)}
        number = known.get(word, int(word) if word.isdecimal() else None)
        if number is None or isinstance(action, bool) or number not in known.values():
            raise ValueError(f"there is no action {action!r}; nothing was done; the actions are {self.listed}")
        return number

    def _numbers(self, action: Any) -> Any:
        try:
            value = np.asarray(action, dtype=self.space.dtype).reshape(self.space.shape)
        except (TypeError, ValueError, OverflowError):
            value = None
        if value is None or not self.space.contains(value):
            raise ValueError(f"there is no action {action!r}; nothing was done; the actions are {self.listed}")
        return value


def action_set(env: Any, *, names: Sequence[str] | None, owner: str) -> ActionSet:
    """Return the actions of an environment.

    Raises:
        UsageError: there are not as many names as actions, or actions are no numbers.
    """
    space = env.action_space
    kind = type(space).__name__
    if kind == "Discrete":
        first, count = int(space.start), int(space.n)
        found = tuple(names) if names is not None else _own_names(env.unwrapped, first=first, count=count)
        if len(found) != count:
            raise UsageError(f"{owner}: expected {count} action_names, one for each action, got {len(found)}")
        return ActionSet(space=space, names=found, first=first)
    if kind in ("Box", "MultiDiscrete", "MultiBinary"):
        return ActionSet(space=space)
    raise UsageError(
        f"{owner}: expected actions that are a number or a list of numbers, got {space}; wrap the environment, or "
        "write one of your own"
    )


def _own_names(env: Any, *, first: int, count: int) -> tuple[str, ...]:
    """The names that an environment gives its actions, as MiniGrid and Atari do, or else numbers."""
    numbers = tuple(str(number) for number in range(first, first + count))
    kinds = getattr(env, "actions", None)
    if isinstance(kinds, type) and issubclass(kinds, Enum):
        named = {kind.value: kind.name for kind in kinds}
        return tuple(named.get(number, str(number)) for number in range(first, first + count))
    meanings = getattr(env, "get_action_meanings", None)
    found = tuple(str(name).lower() for name in meanings()) if callable(meanings) else ()
    return found if len(found) == count else numbers
