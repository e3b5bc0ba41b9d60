"""Advantages: how much better each rollout is than the others of its group. TRL's formulas, for groups of any size.

    total     = sum_k w_k r_k                                  (NaN where no function scored the rollout)
    advantage = (total - mean(group)) / (std(group) + 1e-4)    scale "group"; "batch" takes the std of all rollouts,
                                                               "none" divides by nothing

With "normalize_then_sum" each function is normalized within the group first, and their weighted sum over the batch.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from triptych_trainer.grpo.batch import Advantages, Rewards

__all__ = ["Aggregation", "Scale", "advantages", "nanstd", "weighted_totals"]

Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]
Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4


def advantages(
    rewards: Rewards,
    *,
    weights: Sequence[float],
    aggregation: Aggregation = "sum_then_normalize",
    scale: Scale = "group",
) -> Advantages:
    """Compare the rollouts of each group; one that no function scored gets advantage 0 and moves no mean."""
    totals_B = weighted_totals(rewards, weights)
    slots_PG, group_B = _slots(rewards.keys_B)
    if aggregation == "normalize_then_sum":
        grouped_PGF = _padded(rewards.scores_BF)[slots_PG]
        mean_PF, std_PF = grouped_PGF.nanmean(dim=1), _group_std(grouped_PGF, group_B)
        normalized_BF = (rewards.scores_BF - mean_PF[group_B]) / (std_PF[group_B] + EPSILON)
        summed_B = _weighted(normalized_BF, weights).masked_fill(totals_B.isnan(), torch.nan)
        std_B = _batch_std(summed_B)
        values_B = (summed_B - summed_B.nanmean()) / (std_B + EPSILON)
    else:
        grouped_PG = _padded(totals_B)[slots_PG]
        values_B = totals_B - grouped_PG.nanmean(dim=1)[group_B]
        std_B = _batch_std(totals_B) if scale == "batch" else _group_std(grouped_PG, group_B)[group_B]
        if scale != "none":
            values_B = values_B / (std_B + EPSILON)
    return Advantages(
        values_B=values_B.nan_to_num(nan=0.0), without_spread_B=torch.isclose(std_B, torch.zeros_like(std_B))
    )


def weighted_totals(rewards: Rewards, weights: Sequence[float]) -> torch.Tensor:
    """Return the weighted sum of each rollout's rewards [B], or NaN if no function scored it."""
    return _weighted(rewards.scores_BF, weights).masked_fill(rewards.scores_BF.isnan().all(dim=1), torch.nan)


def nanstd(values: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """Return the standard deviation of what is not NaN, over n - 1, or NaN for fewer than two values."""
    dims = tuple(range(values.ndim)) if dim is None else (dim,)
    mean = values.nanmean(dim=dims, keepdim=True)
    variance = ((values - mean) ** 2).nanmean(dim=dims)
    count = (~values.isnan()).sum(dim=dims)
    bessel = torch.where(count > 1, count / (count - 1), torch.nan)
    return (variance * bessel).sqrt()


def _weighted(scores_BF: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    return (scores_BF * torch.tensor(weights, dtype=scores_BF.dtype, device=scores_BF.device)).nansum(dim=1)


def _slots(keys_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of each group [P, G], filled up with B, the number after the last row; and the group of each row [B]."""
    members: dict[int, list[int]] = {}
    for row, key in enumerate(keys_B.tolist()):
        members.setdefault(key, []).append(row)
    longest = max(map(len, members.values()), default=0)
    slots = [rows + [len(keys_B)] * (longest - len(rows)) for rows in members.values()]
    number = {key: group for group, key in enumerate(members)}
    groups = [number[key] for key in keys_B.tolist()]
    return torch.tensor(slots, device=keys_B.device), torch.tensor(groups, device=keys_B.device)


def _padded(values: torch.Tensor) -> torch.Tensor:
    """With one more row, of NaN, for the slots of groups that have fewer rollouts than the largest."""
    return torch.cat([values, torch.full_like(values[:1], torch.nan)])


def _group_std(grouped: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """Of each group [P, ...]; 0 for a group of one rollout, which has nothing to be compared with."""
    std = nanstd(grouped, dim=1)
    alone_P = torch.bincount(group_B) == 1
    return std.masked_fill(alone_P.view(-1, *[1] * (std.ndim - 1)), 0.0)


def _batch_std(values_B: torch.Tensor) -> torch.Tensor:
    """Of all rollouts, for each of them."""
    return nanstd(values_B).expand_as(values_B) if values_B.numel() > 1 else torch.zeros_like(values_B)
