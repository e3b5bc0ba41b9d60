"""The source of completions (the trainer's own model, or another engine), and its results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import RolloutGroup

__all__ = ["Player", "Sampled", "Sampler"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Contains the tokens of one completion as an engine sampled them, and the log-probabilities that it returned."""

    ids: Sequence[int]
    logps: Sequence[float] | None = None
    kept: torch.Tensor | None = None
    """The table of the tokens that each one was drawn from (`rollouts/kept.py`); None: from all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Describes a source of completions: the trainer's own model, or another engine."""

    sample: Callable[[Sequence[RolloutGroup], Sequence[int]], Sequence[Sequence[Sampled]]]
    """Takes groups without rollouts and the number of completions for each; returns the completions of each group."""
    read: Callable[[PreparedPrompt, Sequence[int]], Sequence[Mapping[str, Any]]]
    """Turns the tokens of a completion into messages."""
    end_ids: frozenset[int]
    """Tokens that end a completion."""
    policy_version: int = 0
    """The optimizer step whose weights are used for sampling."""
    go_on: Callable[[Sequence[RolloutGroup], int], Sequence[Sampled]] | None = None
    """From groups whose prompts are rollouts so far, and the most tokens of a turn, to the next turn of each.

    None for an engine that cannot go on with a rollout.
    """
    anywhere: Callable[[bool], bool] = bool
    """From whether a rollout of this rank goes on to whether this rank has to take part in another turn: engines that
    serve several ranks at once are asked by all of them together."""
    let_go: Callable[[], object] = lambda: None
    """Called when no rollout goes on: the engine drops what it keeps of them between their turns."""


Player = Callable[[Sampler, Sequence[RolloutGroup], Sequence[int]], Sequence[RolloutGroup]]
"""Samples rollouts of several turns; the numbers say how many for each group."""
