"""Rollouts with their advantages as the samples that are trained on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from triptych_trainer.grpo.advantages import weighted_totals
from triptych_trainer.grpo.batch import Advantages, Rewards, TrainingBatch
from triptych_trainer.grpo.turns import per_token, step_advantages, stepwise, without_limited
from triptych_trainer.rollouts.rollout import RolloutGroup

if TYPE_CHECKING:
    from triptych_trainer.grpo.step import StepSettings

__all__ = ["training_batch"]

CUT = ("length", "room")
LIMITS = (*CUT, "turns")
"""How a rollout ends that reached the largest number of tokens, or of turns."""


def training_batch(
    groups: Sequence[RolloutGroup],
    rewards: Rewards,
    gains: Advantages,
    *,
    settings: "StepSettings",
    sum_over_ranks: Callable[[int], torch.Tensor],
) -> TrainingBatch:
    """Return the samples of this rank's rollouts with their advantages, without those that the settings leave out."""
    rows = slice(rewards.first_row, rewards.first_row + sum(len(group) for group in groups))
    values = gains.values_B[rows]
    if settings.step_weight is not None:
        totals = iter(weighted_totals(rewards, settings.reward_weights)[rows].tolist())
        gamma, scale = settings.step_gamma, settings.scale_rewards
        steps = [
            turns
            for group in groups
            for turns in step_advantages(group, [next(totals) for _ in group.rollouts], gamma=gamma, scale=scale)
        ]
        values = per_token(groups, values, steps, weight=settings.step_weight)
    limits = LIMITS if settings.mask_over_turn else CUT if settings.mask_truncated else ()
    runs = [one.sampled_runs for group in groups for one in group.rollouts]
    counted, values = stepwise([without_limited(group, limits) for group in groups], values, runs=runs)
    samples = [one for group in counted for one in group.rollouts]
    in_turns = any(one.trajectory is not None for one in samples)
    counted_rows = len(samples)
    if settings.mask_over_turn:
        kept = torch.tensor([one.num_trained > 0 for one in samples], device=values.device)
        values = values * kept.view(-1, *[1] * (values.ndim - 1))
        counted_rows = int(kept.sum())
    uneven = settings.mask_over_turn or sum_over_ranks(int(in_turns)) > 0
    return TrainingBatch(
        groups=tuple(counted),
        advantages=values,
        num_trained_tokens=sum_over_ranks(sum(one.num_trained for one in samples)),
        mean_rows=sum_over_ranks(counted_rows) / sum_over_ranks(1) if uneven else None,
    )
