"""The limits at which a rollout ends, although the model has not ended it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Contains the limits at which a rollout ends, although the model has not ended it."""

    completion_tokens: int
    """The most tokens after the prompt, including those of results and images."""
    context_tokens: int | None = None
    """The most tokens that the model takes, including the prompt; None if its config does not say."""
    calling_turns: int | None = None
    """The most turns whose calls are done; None for no limit."""
    kept_images: int | None = None
    """Each turn is a sample that sees so many of the images that arrived before it; None: one sample sees all."""
    tool_seconds: float = 60.0
    """The most time for a tool, or a method of an environment, that is awaited."""
