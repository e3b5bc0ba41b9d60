"""One step of GRPO, top to bottom: rollout, rewards, advantages, scoring passes, policy pass, loss, update.

    experience = collect(prompts, sampler=..., reward_groups=..., scoring=..., settings=...)     # no gradient
    for batch in experience.batch.split(order, num_parts=n):
        policy_loss(engine, model, batch, loss=...).backward()
        optimizer.step()
        optimizer.zero_grad()

The last three calls are those of transformers' trainer: its `training_step` asks for the loss and calls `backward`,
and its `_run_epoch` does so `gradient_accumulation_steps` times, clips the gradient, and calls the optimizer and the
scheduler. They are not repeated here, because mixed precision, DDP, FSDP and DeepSpeed each have a way of their own
to do them.

This module does not depend on TRL: `grpo/trl` passes TRL's reward functions and losses as `reward_groups` and `loss`.
All values are frozen. A function takes everything that it needs as arguments, and returns its results.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch

from triptych_trainer.grpo.advantages import Aggregation, Scale, advantages
from triptych_trainer.grpo.batch import Experience, Rewards, TokenScores, TrainingBatch, loss_mask
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import group_batch, pieces
from triptych_trainer.grpo.samples import training_batch
from triptych_trainer.options.corrections import CorrectionMode
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup
from triptych_trainer.rollouts.sampled import Player, Sampled, Sampler

__all__ = [
    "Correction",
    "OpenModel",
    "Player",
    "RewardGroups",
    "Sampled",
    "Sampler",
    "Scoring",
    "StepSettings",
    "collect",
    "policy_loss",
    "rollout",
    "sampling_ratio",
    "score",
]

OpenModel = Callable[[], AbstractContextManager[torch.nn.Module]]
"""Gives the model as one kind of pass needs it: its weights gathered, its adapter off, its checkpointing off."""
RewardGroups = Callable[[Sequence[RolloutGroup]], Rewards]
"""Scores the rollouts of this rank with every reward function, and gathers the scores of all ranks."""
Loss = Callable[[TokenScores, TrainingBatch], torch.Tensor]
"""The loss of a batch whose tokens have been scored with gradient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """Says how an engine that samples from a slightly other distribution is corrected for; names and defaults are
    TRL's.
    """

    mode: CorrectionMode = "sequence_mask"
    clip_min: float | None = None
    clip_max: float | None = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """Contains the settings that determine the values of a step, other than the model and the rewards."""

    reward_weights: tuple[float, ...]
    aggregation: Aggregation = "sum_then_normalize"
    scale_rewards: Scale = "group"
    mask_truncated: bool = False
    """Whether completions that reached the limit are left out of the loss."""
    rollouts_per_pass: int
    """How many rollouts a pass without gradient scores at a time, each with all of its turns."""
    correction: Correction | None = None
    step_weight: float | None = None
    """How much the comparison of a turn with those from the same state counts; None where turns are not compared."""
    step_gamma: float = 0.95
    """The discount of later rewards in that comparison."""
    mask_over_turn: bool = False
    """Whether rollouts that ran into a limit of turns or tokens are left out, and the loss divided by what remains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoring:
    """Contains the passes without gradient that a step needs."""

    engine: GroupEngine
    old: OpenModel | None = None
    """Scores with the weights that sampled; None where the policy pass will have the same weights."""
    reference: OpenModel | None = None


def collect(
    prompts: Mapping[int, PreparedPrompt],
    *,
    num_generations: int | Mapping[int, int],
    sampler: Sampler,
    reward_groups: RewardGroups,
    scoring: Scoring,
    settings: StepSettings,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    play: Player | None = None,
) -> Experience:
    """Sample rollouts for prompts, given by the keys of their rows, and compute everything that training needs.

    ``num_generations`` is how many rollouts a prompt gets: one number for all, or one for each key. With ``play`` they
    have several turns. ``sum_over_ranks`` adds a number of this rank, on ``device``, to those of the others.
    """
    groups = rollout(sampler, prompts, num_generations=num_generations, play=play)
    rewards = reward_groups(groups)
    gains = advantages(
        rewards,
        weights=settings.reward_weights,
        aggregation=settings.aggregation,
        scale=settings.scale_rewards,
    )
    batch = training_batch(
        groups,
        rewards,
        gains,
        settings=settings,
        sum_over_ranks=lambda count: sum_over_ranks(torch.tensor(count, device=device)),
    )
    num_pieces = -(-sum(len(group) for group in groups) // settings.rollouts_per_pass)
    score_with = partial(score, scoring.engine, num_pieces=num_pieces)
    if scoring.old is not None:
        batch = replace(batch, old_logps_BC=score_with(scoring.old, batch))
    if scoring.reference is not None:
        batch = replace(batch, reference_logps_BC=score_with(scoring.reference, batch))
    if settings.correction is not None:
        batch = replace(batch, sampling_ratio=sampling_ratio(batch, settings.correction))
    return Experience(groups=tuple(groups), rewards=rewards, advantages=gains, batch=batch)


def rollout(
    sampler: Sampler,
    prompts: Mapping[int, PreparedPrompt],
    *,
    num_generations: int | Mapping[int, int],
    play: Player | None = None,
) -> list[RolloutGroup]:
    """Sample ``num_generations`` completions for every prompt; one number for all, or one for each key."""
    empty = [RolloutGroup(key=key, prompt=prompt) for key, prompt in prompts.items()]
    sizes = [num_generations if isinstance(num_generations, int) else num_generations[group.key] for group in empty]
    if play is not None:
        return list(play(sampler, empty, sizes))
    found = sampler.sample(empty, sizes)
    return [
        group.with_rollouts([_one_turn(sampler, group.prompt, sampled) for sampled in completions])
        for group, completions in zip(empty, found, strict=True)
    ]


def _one_turn(sampler: Sampler, prompt: PreparedPrompt, sampled: Sampled) -> Rollout:
    ended = bool(sampled.ids) and sampled.ids[-1] in sampler.end_ids
    return Rollout(
        ids=tuple(sampled.ids),
        trained=(True,) * len(sampled.ids),
        messages=tuple(sampler.read(prompt, sampled.ids)),
        finish="stop" if ended else "length",
        sampling_logps=None if sampled.logps is None else tuple(sampled.logps),
        kept=sampled.kept,
        policy_version=sampler.policy_version,
    )


@torch.no_grad()
def score(engine: GroupEngine, open_model: OpenModel, batch: TrainingBatch, *, num_pieces: int) -> torch.Tensor:
    """Return the log-probabilities [B, C] of a batch's rollouts, computed for some at a time; they are zero where the
    loss counts nothing.

    The number of pieces follows from that of the rollouts, and not from their turns, because ranks score in step.
    """
    with open_model() as model:
        parts = [
            engine.logps(model, group_batch(piece), keys=[group.key for group in piece]).logps_BC
            for piece in pieces(batch.groups, num_pieces=num_pieces)
        ]
    return torch.cat([widened(logps_BC, batch.width) for logps_BC in parts])


def widened(values_BC: torch.Tensor, width: int) -> torch.Tensor:
    """Return the same rows with zeros up to ``width`` columns."""
    return torch.nn.functional.pad(values_BC, (0, width - values_BC.shape[1]))


def sampling_ratio(batch: TrainingBatch, correction: Correction) -> torch.Tensor:
    """Return how many times more likely a sampled token is for the trainer than for the engine that sampled it: [B, C]
    for tokens, or [B, 1] for whole rollouts.

    Ratios beyond the limits are clipped ("truncate") or set to zero ("mask"). A token whose log-probability the engine
    did not know counts as equally likely.
    """
    old_BC = batch.old_logps_BC
    assert old_BC is not None, "the ratio compares with the log-probabilities of the trainer's own model"
    mask_BC = loss_mask(batch.rollouts, width=batch.width, device=old_BC.device)
    difference = ((old_BC - sampling_logps(batch, device=old_BC.device)) * mask_BC).nan_to_num(nan=0.0)
    if correction.mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    if correction.mode.startswith("sequence_mean"):
        difference = difference / mask_BC.sum(dim=-1, keepdim=True).clamp(min=1)
    ratio = difference.exp()
    low = -torch.inf if correction.clip_min is None else correction.clip_min
    high = torch.inf if correction.clip_max is None else correction.clip_max
    if correction.mode.endswith("truncate"):
        return ratio.clamp(min=low, max=high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def sampling_logps(batch: TrainingBatch, *, device: torch.device) -> torch.Tensor:
    """Return the engine's log-probability of every token: [B, C], NaN if it gave none, 0 after each rollout's end."""
    rows = [
        [*(rollout.sampling_logps or [torch.nan] * len(rollout.ids)), *[0.0] * (batch.width - len(rollout.ids))]
        for rollout in batch.rollouts
    ]
    return torch.tensor(rows, dtype=torch.float32, device=device).view(len(rows), batch.width)


def policy_loss(engine: GroupEngine, model: torch.nn.Module, batch: TrainingBatch, *, loss: Loss) -> torch.Tensor:
    """Score a batch with gradient, every prompt once for all of its rollouts, and return its loss."""
    keys = [group.key for group in batch.groups]
    scores = engine.logps(
        model,
        group_batch(batch.groups),
        keys=keys,
        compute_entropy=True,
        compute_router_loss=engine.router_loss,
    )
    entropies_BC = scores.entropies_BC
    return loss(
        replace(
            scores,
            logps_BC=widened(scores.logps_BC, batch.width),
            entropies_BC=None if entropies_BC is None else widened(entropies_BC, batch.width),
        ),
        batch,
    )
