"""What `check` and `preview` take about expected answers: the rewards of the run, which know what can be met."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["AnswerOptions"]


@dataclass(kw_only=True)
class AnswerOptions:
    """What is checked of the expected answers."""

    reward: list[str] = field(
        default_factory=lambda: ["accuracy", "format"],
        metadata={
            "metavar": "NAME",
            "help": "the rewards, as for train: rows are refused whose answer could never earn them",
        },
    )
