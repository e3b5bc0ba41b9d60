"""The limits at which a rollout ends, although the model has not ended it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits at which a rollout ends, although the model has not ended it."""

    completion_tokens: int
    """The most tokens after the prompt, including those of results and images."""
    context_tokens: int | None = None
    """The most tokens that the model takes, including the prompt; None if its config does not say."""
    calling_turns: int | None = None
    """The most turns whose calls are done; None for no limit."""
    kept_images: int | None = None
    """How many of the images that arrived a turn is sampled behind, as a sample of its own; None for all, in one."""
    tool_seconds: float = 60.0
    """The most time for a tool that is awaited."""
