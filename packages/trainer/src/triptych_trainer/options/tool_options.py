"""What `check`, `preview` and `eval` take about tools and environments: the same as the run."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PlayOptions", "TimedToolOptions", "ToolOptions"]


@dataclass(kw_only=True)
class ToolOptions:
    """Names the tools and the environment of a rollout."""

    tools: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "functions for the model to call, as file.py:function"},
    )
    environment: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "a class whose methods the model calls; several as name=file.py:Class"},
    )


@dataclass(kw_only=True)
class TimedToolOptions(ToolOptions):
    """Names the tools and the environment of a rollout, and says how long they may take."""

    tool_seconds: float = field(
        default=60.0, metadata={"help": "most time for an async tool or method of an environment"}
    )


@dataclass(kw_only=True)
class PlayOptions(TimedToolOptions):
    """Names the tools and the environment of rollouts, and the limits of their length."""

    max_tool_calling_iterations: int | None = field(
        default=None, metadata={"help": "turns whose calls are done (default: any number)"}
    )
    max_turns: int | None = field(
        default=None, metadata={"help": "messages of the model in a rollout (default: --max_tool_calling_iterations)"}
    )
    history: str = field(
        default="full", metadata={"help": "full: every turn sees all before it; last_2: the last 2 images that arrived"}
    )
