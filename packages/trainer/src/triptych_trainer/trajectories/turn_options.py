"""How rollouts of several turns are sampled and compared; names are the field's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from triptych_trainer.errors import UsageError

__all__ = ["ADVANTAGES", "TurnOptions"]

ADVANTAGES = ("episode", "gigpo")
_LAST = re.compile(r"last_([1-9]\d*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnOptions:
    """Contains the options of a run with tools or an environment.

    Raises:
        UsageError: a value that no run can use, or that nothing would read.
    """

    history: str = "full"
    """``full``: a rollout is one sample. ``last_2``: each turn is a sample of its own, which has the last two of the
    images that arrived; a text replaces the others."""
    advantage: str = "episode"
    """``episode``: all turns of a rollout have its advantage. ``gigpo``: each turn is also compared with the turns of
    its group that began in the same state."""
    step_advantage_weight: float | None = None
    """Of the second comparison of ``gigpo``; None for 1."""
    step_gamma: float | None = None
    """The discount of later rewards in the second comparison of ``gigpo``; None for 0.95."""
    max_turns: int | None = None
    """Messages of the model in a rollout: one more than TRL's ``max_tool_calling_iterations``."""
    tool_seconds: float = 60.0
    """The most time for an `async` tool or an `async` method of an environment."""
    mask_over_turn: bool = False
    """Leave rollouts that ran into a limit of turns or tokens out of the loss, which is divided by what remains."""

    def __post_init__(self) -> None:
        if self.history != "full" and not _LAST.fullmatch(self.history):
            raise UsageError(f"--history: expected full, or last_ and a number such as last_2, got {self.history!r}")
        if self.advantage not in ADVANTAGES:
            raise UsageError(f"--advantage: expected one of {', '.join(ADVANTAGES)}, got {self.advantage!r}")
        if self.max_turns is not None and self.max_turns < 1:
            raise UsageError(f"--max_turns: expected 1 or more, got {self.max_turns}")
        if not 0 < self.tool_seconds < float("inf"):
            raise UsageError(f"--tool_seconds: expected a number of seconds above 0, got {self.tool_seconds:g}")
        for name, most in (("step_advantage_weight", float("inf")), ("step_gamma", 1.0)):
            value = getattr(self, name)
            if value is not None and self.advantage != "gigpo":
                raise UsageError(f"--{name}: only --advantage gigpo reads it; add that, or leave it out")
            if value is not None and not 0 <= value <= most:
                raise UsageError(
                    f"--{name}: expected {'0 or more' if most > 1 else 'a number from 0 to 1'}, got {value}"
                )

    @property
    def kept_images(self) -> int | None:
        """How many of the images that arrived a sample contains; None for all, in one sample."""
        found = _LAST.fullmatch(self.history)
        return None if found is None else int(found[1])

    @property
    def comparison(self) -> Literal["episode", "gigpo"]:
        """The comparison of advantages that this option names."""
        return cast(Literal["episode", "gigpo"], self.advantage)

    @property
    def weight(self) -> float:
        """The weight of the comparison of turns."""
        return 1.0 if self.step_advantage_weight is None else self.step_advantage_weight

    @property
    def gamma(self) -> float:
        """The discount of later rewards."""
        return 0.95 if self.step_gamma is None else self.step_gamma

    def calling_turns(self, iterations: int | None) -> int | None:
        """Return the number of turns whose calls are done, from ``max_turns`` or from TRL's option.

        Raises:
            UsageError: both are given.
        """
        if self.max_turns is None:
            return iterations
        if iterations is not None:
            raise UsageError(
                f"--max_turns {self.max_turns} and --max_tool_calling_iterations {iterations} say the same in two ways "
                "(the first counts the last message as well); leave one of them out"
            )
        return self.max_turns - 1

    def check(self, *, has_tools: bool, scale_rewards: object) -> None:
        """Check these options against the rest of a run.

        Raises:
            UsageError: names the option that cannot be used, and what to do instead.
        """
        if not has_tools and self != TurnOptions():
            given = next(name for name in self.__slots__ if getattr(self, name) != getattr(TurnOptions(), name))
            raise UsageError(f"--{given}: without --tools and --environment a rollout has one turn; leave it out")
        if self.advantage == "gigpo" and scale_rewards == "batch":
            raise UsageError(
                "--scale_rewards batch: turns are compared with those that began in the same state, not with the "
                "batch; use group or none with --advantage gigpo"
            )
