"""What the pages of a run and of an evaluation take about right, wrong and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_trainer.rewards.frames import FRAMES

__all__ = ["PAGE", "PageOptions"]

PAGE = ("verdict", "answer_frame", "completion_frame")
"""The options that only a page reads."""


@dataclass(kw_only=True)
class PageOptions:
    """Contains the options that say which reward decides right and wrong on a page, and how boxes are read."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"answer_frame": FRAMES, "completion_frame": FRAMES}

    verdict: str | None = field(
        default=None,
        metadata={"metavar": "REWARD", "help": "reward that says right or wrong on the page (default: accuracy)"},
    )
    answer_frame: str = field(default="seen", metadata={"metavar": "FRAME", "help": "coordinates of boxes in answers"})
    completion_frame: str = field(
        default="seen", metadata={"metavar": "FRAME", "help": "coordinates of boxes in completions"}
    )
