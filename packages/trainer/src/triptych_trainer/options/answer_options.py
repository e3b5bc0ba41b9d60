"""The options of `check` and `preview` about expected answers: the rewards of the run, which check the answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_trainer.options.default_rewards import DefaultRewards

__all__ = ["AnswerOptions"]


@dataclass(kw_only=True)
class AnswerOptions:
    """Contains the options that say how expected answers are checked."""

    reward: list[str] = field(
        default_factory=lambda: DefaultRewards(["accuracy", "format"]),
        metadata={
            "metavar": "NAME",
            "help": "the rewards, as for train: rows are refused whose answer could never earn them",
        },
    )
