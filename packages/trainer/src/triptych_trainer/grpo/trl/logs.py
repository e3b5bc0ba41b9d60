"""What TRL logs of a generation, under its names, from our values."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from triptych_trainer.grpo.advantages import nanstd, weighted_totals
from triptych_trainer.grpo.batch import Advantages, Experience, Rewards, TrainingBatch, loss_mask
from triptych_trainer.grpo.mismatch import measured, merged
from triptych_trainer.grpo.mismatch import metrics as mismatch_metrics
from triptych_trainer.grpo.rewarding import completions_of, prompt_as_read, texts_of
from triptych_trainer.grpo.step import sampling_logps
from triptych_trainer.rollouts.rollout import RolloutGroup

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["length_metrics", "log_experience", "num_tokens", "reward_metrics", "sampling_metrics"]

DROPPED = "sampling/importance_sampling_ratio/dropped"
"""The share of rollouts whose every token the correction gave the weight 0."""
Gather = Callable[[torch.Tensor], torch.Tensor]


def log_experience(trainer: "MultiImageGRPOTrainer", experience: Experience, *, mode: str) -> dict[str, float]:
    """Add a generation to what TRL logs at its next step: its numbers, which are returned, and the last texts."""
    gather, device, metrics = trainer.accelerator.gather, trainer.accelerator.device, trainer._metrics[mode]
    groups, rewards, advantages = experience.groups, experience.rewards, experience.advantages
    total = num_tokens(groups, gather=gather, device=device)
    if mode == "train":
        trainer.state.num_input_tokens_seen += total
    metrics["num_tokens"] = [trainer.state.num_input_tokens_seen]
    found = length_metrics(groups, gather=gather, device=device)
    if trainer.play is not None:
        found |= call_metrics(groups, gather=gather, device=device)
        prefilled = gather(torch.tensor(trainer.engine.turns.counts_since(), device=device)).view(-1, 2).sum(dim=0)
        found |= dict(zip(("tools/prefilled_tokens", "tools/prefilled_again"), prefilled.tolist(), strict=True))
    found |= reward_metrics(rewards, advantages, weights=trainer.reward_weights.tolist())
    if experience.batch.sampling_ratio is not None:
        found |= sampling_metrics(experience.batch, gather=gather)
    if trainer.use_vllm:
        mismatch = merged(measured(experience.batch), gather_object=gather_object)
        found |= mismatch_metrics(mismatch)
        trainer.mismatch_watch.check(trainer, mismatch, dropped=found.get(DROPPED, 0.0))
    for name, value in found.items():
        metrics[name].append(value)
    logs = trainer._logs
    prompts = [prompt for group in groups for prompt in [prompt_as_read(trainer.tables, group)] * len(group)]
    logs["prompt"].extend(gather_object(prompts))
    logs["completion"].extend(gather_object([texts_of(said) for group in groups for said in completions_of(group)]))
    for column, name in enumerate(rewards.distinct_names):
        logs["rewards"][name].extend(rewards.scores_BF[:, column].tolist())
    logs["advantages"].extend(advantages.values_B.tolist())
    _log_what_rewards_said(trainer, num_rows=len(prompts), mode=mode)
    return found


def _log_what_rewards_said(trainer: "MultiImageGRPOTrainer", *, num_rows: int, mode: str) -> None:
    """The columns and numbers of ``log_extra`` and ``log_metric``; sorted, so that all ranks gather the same one."""
    for column in sorted(set(gather_object(list(trainer._pending_extra_logs)))):
        values = trainer._pending_extra_logs.get(column, [None] * num_rows)
        trainer._logs["extra"][column].extend(gather_object(values))
    trainer._pending_extra_logs.clear()
    for name in sorted(set(gather_object(list(trainer._pending_metrics)))):
        said = trainer._pending_metrics.get(name, [])
        sums = torch.tensor([sum(said), len(said)], dtype=torch.float32, device=trainer.accelerator.device)
        total, count = trainer.accelerator.gather(sums).view(-1, 2).sum(dim=0).tolist()
        trainer._metrics[mode][name].append(total / count)
    trainer._pending_metrics.clear()


def num_tokens(groups: Sequence[RolloutGroup], *, gather: Gather, device: torch.device) -> int:
    """Return the tokens of the prompts, counted once for each of their rollouts as TRL does, and the sampled tokens, of
    all ranks.
    """
    counts = [len(group.prompt.ids) + rollout.num_trained for group in groups for rollout in group.rollouts]
    return int(gather(torch.tensor(sum(counts), device=device)).sum())


def length_metrics(groups: Sequence[RolloutGroup], *, gather: Gather, device: torch.device) -> dict[str, float]:
    """Return the lengths of completions in sampled tokens, and the lengths of those that ended by themselves."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = gather(torch.tensor([rollout.num_trained for rollout in rollouts], device=device)).float()
    ended = gather(torch.tensor([not rollout.was_cut for rollout in rollouts], device=device))
    metrics = {"completions/clipped_ratio": (~ended).float().mean().item()}
    for kind, values in (
        ("", lengths),
        ("terminated_", lengths[ended] if ended.any() else torch.zeros(1, device=device)),
    ):
        metrics |= {
            f"completions/mean_{kind}length": values.mean().item(),
            f"completions/min_{kind}length": values.min().item(),
            f"completions/max_{kind}length": values.max().item(),
        }
    return metrics


def call_metrics(groups: Sequence[RolloutGroup], *, gather: Gather, device: torch.device) -> dict[str, float]:
    """Return the calls of tools per rollout and the share that failed, under TRL's names, the images that arrived, and
    the ends.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    counts = [
        len(rollouts),
        sum(one.num_calls for one in rollouts),
        sum(one.num_failed_calls for one in rollouts),
        sum(bool(one.unread) for one in rollouts),
        sum(len(one.images) for one in rollouts),
        *(sum(one.finish == name for one in rollouts) for name in ("turns", "room", "done")),
    ]
    sums = gather(torch.tensor(counts, device=device)).view(-1, len(counts)).sum(dim=0).tolist()
    total, calls, failed, unread, images, turns, room, done = sums
    return {
        "tools/call_frequency": calls / max(total, 1),
        "tools/failure_frequency": failed / calls if calls else 0.0,
        "tools/unread_calls": unread / max(total, 1),
        "tools/images": images / max(total, 1),
        "tools/ended_by_turns": turns / max(total, 1),
        "tools/ended_by_room": room / max(total, 1),
        "tools/ended_by_environment": done / max(total, 1),
    }


def reward_metrics(rewards: Rewards, advantages: Advantages, *, weights: Sequence[float]) -> dict[str, float]:
    """Return the mean and spread of every reward where it applies and of their weighted sum, and the share of groups
    without variance. As in TRL, rewards of one name have the mean of their means and of their spreads.
    """
    means_F, spreads_F = rewards.scores_BF.nanmean(dim=0), nanstd(rewards.scores_BF, dim=0)
    metrics = {}
    for name in dict.fromkeys(rewards.names):
        same = [column for column, other in enumerate(rewards.names) if other == name]
        metrics[f"rewards/{name}/mean"] = means_F[same].nanmean().item()
        metrics[f"rewards/{name}/std"] = spreads_F[same].nanmean().item()
    totals_B = weighted_totals(rewards, weights)
    return {
        **metrics,
        "reward": totals_B.nanmean().item(),
        "reward_std": nanstd(totals_B).item(),
        "frac_reward_zero_std": advantages.without_spread_B.float().mean().item(),
    }


def sampling_metrics(batch: TrainingBatch, *, gather: Gather) -> dict[str, float]:
    """Return how far the engine that sampled is from the trainer's model, and the ratios that correct for it."""
    old_BC, ratio = batch.old_logps_BC, batch.sampling_ratio
    assert old_BC is not None
    assert ratio is not None
    mask_BC = loss_mask(batch.rollouts, width=batch.width, device=old_BC.device)
    difference_BC = old_BC - sampling_logps(batch, device=old_BC.device)
    signed = difference_BC[mask_BC & ~difference_BC.isnan()]
    dropped_B = (ratio == 0).all(dim=-1) if ratio.numel() else torch.zeros(1, dtype=torch.bool, device=old_BC.device)
    ratios = ratio.flatten() if ratio.shape != mask_BC.shape else ratio[mask_BC]
    nothing = torch.zeros(1, device=old_BC.device)
    signed, ratios = (values if values.numel() else nothing for values in (signed, ratios))
    differences, raw = signed.abs(), signed.exp()
    return {
        "sampling/sampling_logp_difference/mean": gather(differences.mean()).mean().item(),
        "sampling/sampling_logp_difference/max": gather(differences.max()).max().item(),
        "sampling/importance_sampling_ratio/min": gather(ratios.min()).min().item(),
        "sampling/importance_sampling_ratio/mean": gather(ratios.mean()).nanmean().item(),
        "sampling/importance_sampling_ratio/max": gather(ratios.max()).max().item(),
        "sampling/raw_token_ratio/min": gather(raw.min()).min().item(),
        "sampling/raw_token_ratio/mean": gather(raw.mean()).mean().item(),
        "sampling/raw_token_ratio/max": gather(raw.max()).max().item(),
        DROPPED: gather(dropped_B.float().mean()).mean().item(),
    }
