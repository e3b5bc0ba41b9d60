"""Environments: one object for each rollout of a batch, whose public methods are its tools."""

from __future__ import annotations

import inspect
import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.environment_column import COLUMN, chosen_environment
from triptych_trainer.prompts.own_values import own_values
from triptych_trainer.rewards.guard import LARGEST
from triptych_trainer.rewards.random_states import OF_SAMPLING, kept_random_numbers
from triptych_trainer.trajectories.async_loop import tool_loop
from triptych_trainer.trajectories.failures import one_sentence_of
from triptych_trainer.trajectories.results import Piece, first_pieces_of, pieces_digest
from triptych_trainer.trajectories.toolbox import Tool, toolbox

__all__ = ["Environments", "is_done", "rewards_of", "tells_turns", "turn_reward_of"]

NOT_TOOLS = ("reset", "get_reward", "get_turn_reward")
Factory = Callable[[], Any]


class Environments:
    """Makes the objects of one factory, or of several by name, when they are needed; later rollouts use them again."""

    def __init__(self, factory: Factory | Mapping[str, Factory], *, seconds: float = 60.0) -> None:
        """Make the first object of each factory; ``seconds`` is the most time for what is awaited.

        Raises:
            UsageError: one cannot be made or has no ``reset``, or a method that cannot be described to the model, or
                two classes have one name.
        """
        self.seconds = seconds
        self._factories: dict[str | None, Factory] = {None: factory} if callable(factory) else {}
        if not callable(factory):
            self._factories.update((name, make) for name, make in factory.items())
        if not self._factories:
            raise UsageError("--environment: expected an environment, got an empty mapping of names")
        self.names: tuple[str, ...] = () if None in self._factories else tuple(map(str, self._factories))
        """The names that the column `environment` may contain; empty if all rows have the same environment."""
        self._pools = {name: [self._made(name)] for name in self._factories}
        self.kinds = tuple(dict.fromkeys(type(pool[0]) for pool in self._pools.values()))
        """The classes of the environments."""
        for kind in self.kinds:
            _check_kind(kind)
        alike = Counter(kind.__name__ for kind in self.kinds).most_common(1)[0]
        if alike[1] > 1:
            raise UsageError(
                f"--environment: {alike[1]} classes are both called {alike[0]} in logs and reports; rename one"
            )
        for pool in self._pools.values():
            self.tools(pool[0])

    def name_of(self, row: Mapping[str, Any], *, where: str) -> str | None:
        """Return the name of the environment that a row chooses, or None if all rows have the same environment.

        Raises:
            DataError: the row names none of them.
        """
        if not self.names:
            return None
        return chosen_environment(row, self.names, where=where)

    def take(self, count: int, name: str | None = None) -> list[Any]:
        """Return the first ``count`` environments of a name; every batch uses the same objects."""
        pool = self._pools[name]
        while len(pool) < count:
            pool.append(self._made(name, number=len(pool) + 1))
        return pool[:count]

    def _made(self, name: str | None, *, number: int = 1) -> Any:
        factory = self._factories[name]
        kind = getattr(factory, "__name__", type(factory).__name__)
        with one_sentence_of(
            f"{kind}()",
            where=f"--environment{'' if name is None else f', {name}'}: object {number}: ",
            remedy="it is called without arguments, once for each rollout of a batch; give the arguments of its "
            "__init__ default values",
        ):
            return factory()

    def deal(self, names: Sequence[str | None], sizes: Sequence[int]) -> list[list[Any]]:
        """Return for each group ``sizes[p]`` environments of the name that its row chose; no two rollouts share an
        object.
        """
        needed: Counter[str | None] = Counter()
        for name, size in zip(names, sizes, strict=True):
            needed[name] += size
        left: dict[str | None, Iterator[Any]] = {name: iter(self.take(count, name)) for name, count in needed.items()}
        return [[next(left[name]) for _ in range(size)] for name, size in zip(names, sizes, strict=True)]

    def tools(self, environment: Any) -> dict[str, Tool]:
        """Return the public methods of an environment.

        Raises:
            UsageError: one cannot be described to the model.
        """
        kind = type(environment)
        try:
            return toolbox([getattr(environment, name) for name in _methods(kind)])
        except UsageError as error:
            raise UsageError(
                f"{error}. It is a public method of {kind.__name__}, and so a tool: begin its name with an underscore "
                "if the model shall not call it"
            ) from error

    def reset(self, environments: Sequence[Any], row: Mapping[str, Any], *, where: str) -> list[Piece]:
        """Begin the rollouts of one group; returns what all of them see first.

        Raises:
            UsageError: one cannot begin, or shows what is no message, or they begin differently, and could not be
                compared with each other.
        """
        kind = type(environments[0]).__name__
        if self.names:  # the column is for the choice, and no argument of the environment
            row = {name: value for name, value in row.items() if name != COLUMN}
        given = _accepted(environments[0].reset, row)
        seen = []
        for k, environment in enumerate(environments):
            with (
                one_sentence_of(
                    f"`reset` of {kind}",
                    where=f"{where}: rollout {k + 1}: ",
                    remedy="correct the environment, or the columns of the row that it reads",
                ),
                kept_random_numbers(f"`reset` of {kind}", names=OF_SAMPLING),
            ):
                result = _value(environment.reset(**own_values(given)), seconds=self.seconds)
            seen.append(first_pieces_of(result, owner=f"{where}: `reset` of {kind}"))
            if is_done(environment, where=f"{where}: rollout {k + 1}"):
                raise UsageError(
                    f"{where}: rollout {k + 1}: `reset` of {kind} leaves `done` true, so that the rollout would end "
                    "before its first turn; let `reset` set it to False"
                )
        for k, other in enumerate(seen):
            if pieces_digest(other) != pieces_digest(seen[0]):
                raise UsageError(
                    f"{where}: `reset` of {kind} showed rollout 1 and rollout {k + 1} different things, "
                    "but the rollouts of a row are compared with each other; draw what is random from the row, for "
                    "example from a column `seed`"
                )
        return seen[0]


def rewards_of(environments: Environments) -> list[Callable[..., Any]]:
    """Return a reward function for each class that says what a rollout was worth, named after it.

    It scores the rollouts that were played in that class, and none of the others.
    """
    seconds = environments.seconds
    return [_reward_of(kind, seconds) for kind in environments.kinds if callable(getattr(kind, "get_reward", None))]


def _reward_of(kind: type, seconds: float) -> Callable[..., Any]:
    def reward(environments: Sequence[Any], source: Sequence[Any] | None = None, **_: Any) -> list[float | None]:
        rows = source or ["" for _ in environments]
        places = [f"{row}: rollout {rows[: k + 1].count(row)}: ".removeprefix(": ") for k, row in enumerate(rows)]
        return [
            _told(one, "get_reward", where=where, seconds=seconds) if type(one) is kind else None
            for one, where in zip(environments, places, strict=True)
        ]

    reward.__name__ = kind.__name__
    return reward


def _told(environment: Any, method: str, *, where: str, seconds: float) -> float | None:
    """The number that a method of an environment returns, or None."""
    name = f"`{method}` of {type(environment).__name__}"
    remedy = "a rollout without its reward cannot be trained on; return a finite number, or None for 'not scored'"
    with one_sentence_of(name, where=where, remedy=remedy), kept_random_numbers(name, names=OF_SAMPLING):
        found = _value(getattr(environment, method)(), seconds=seconds)
    if found is None:
        return None
    size: Any = abs(found) if isinstance(found, numbers.Real) else math.inf
    if not size <= LARGEST:  # so is NaN
        raise UsageError(f"{where}{name}: expected a finite number of at most {LARGEST:g}, or None, got {found!r}")
    return float(found)


def tells_turns(environment: Any) -> bool:
    """Return whether an environment also gives a reward for each turn."""
    return callable(getattr(environment, "get_turn_reward", None))


def turn_reward_of(environment: Any, *, where: str, seconds: float) -> float:
    """Return the reward that an environment gives for the turn whose calls were just done.

    Raises:
        UsageError: it fails, or is no number.
    """
    return _told(environment, "get_turn_reward", where=f"{where}: ", seconds=seconds) or 0.0


def is_done(environment: Any, *, where: str) -> bool:
    """Return whether an environment says that its rollout has ended.

    Raises:
        UsageError: it cannot say so.
    """
    remedy = "make it an attribute or a property that is true at the end of a rollout"
    with one_sentence_of(f"`done` of {type(environment).__name__}", where=f"{where}: ", remedy=remedy):
        try:
            return bool(environment.done)
        except AttributeError:
            if hasattr(type(environment), "done"):
                raise
            return False  # it has none, and ends where the model calls no more tools


def _check_kind(kind: type) -> None:
    if not callable(getattr(kind, "reset", None)):
        raise UsageError(f"--environment: {kind.__name__} has no method `reset(**row)`; add one")
    if callable(getattr(kind, "done", None)):
        raise UsageError(
            f"--environment: {kind.__name__}.done is a method, which is always true; make it an attribute or a property"
        )
    if callable(getattr(kind, "get_turn_reward", None)) and not callable(getattr(kind, "get_reward", None)):
        raise UsageError(
            f"--environment: {kind.__name__} has `get_turn_reward`, but no `get_reward`, which says "
            "what the whole rollout was worth; add one, for example the sum over its turns"
        )


def _methods(kind: type) -> list[str]:
    """The names of the public methods of a class that are tools."""
    return [
        name
        for name, _ in inspect.getmembers(kind, predicate=_is_method)
        if name not in NOT_TOOLS and not name.startswith("_")
    ]


def _is_method(value: Any) -> bool:
    """Whether this is a function of a class, a class method, or one of them inside a decorator that names it."""
    wrapped = callable(value) and hasattr(value, "__wrapped__")
    return inspect.isfunction(value) or inspect.ismethod(value) or wrapped


def _value(found: Any, *, seconds: float) -> Any:
    return tool_loop.run(found, timeout_seconds=seconds) if inspect.isawaitable(found) else found


def _accepted(reset: Callable[..., Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the row that ``reset`` has parameters for; all columns if it takes ``**kwargs``."""
    parameters = inspect.signature(reset).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return dict(row)
    return {one.name: row[one.name] for one in parameters if one.name in row}
