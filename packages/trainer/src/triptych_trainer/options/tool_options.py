"""What `check` and `preview` take about tools and environments: the same as the run."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ToolOptions"]


@dataclass(kw_only=True)
class ToolOptions:
    """What answers the model during a rollout."""

    tools: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "functions for the model to call, as file.py:function"},
    )
    environment: str | None = field(
        default=None,
        metadata={"metavar": "NAME", "help": "a class whose methods the model calls"},
    )
