"""When a rollout ends although the model would go on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a rollout ends although the model would go on."""

    completion_tokens: int
    """Tokens behind the prompt, those of results and images included."""
    context_tokens: int | None = None
    """Tokens that the model takes, prompt included; None where it does not say."""
    calling_turns: int | None = None
    """Turns whose calls are done; None for any number."""
    kept_images: int | None = None
    """How many of the images that arrived a turn is sampled behind, as a sample of its own; None for all, in one."""
    tool_seconds: float = 60.0
    """How long a tool that is awaited may take."""
