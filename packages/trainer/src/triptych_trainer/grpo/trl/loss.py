"""A scored batch in the form that TRL's loss takes, and the answer to the one question that the loss asks back."""

from typing import TYPE_CHECKING, Any

import torch

from triptych_trainer.grpo.batch import TokenScores, TrainingBatch, loss_mask
from triptych_trainer.grpo.step import sampling_logps

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["by_what_remains", "loss_inputs", "row_factor", "without_policy"]

ROW_MEANS = ("grpo", "sapo", "dr_grpo", "luspo")
"""The losses that TRL divides by the number of rows; the others are divided by the number of counted tokens."""


def row_factor(batch: TrainingBatch, *, loss_type: str) -> float | None:
    """Return what makes a mean over the rows of a part one over the counted rows of all parts, or None if it is one."""
    if batch.mean_rows is None or loss_type not in ROW_MEANS:
        return None
    counted = float(batch.mean_rows)
    return len(batch.rollouts) / counted if counted > 0 else 0.0


def by_what_remains(loss: torch.Tensor, *, factor: float, beside: torch.Tensor | float) -> torch.Tensor:
    """Return a loss whose policy term is multiplied by ``factor``; the terms ``beside`` it are means of their own."""
    return (loss - beside) * factor + beside


def without_policy(trainer: "MultiImageGRPOTrainer", scores: TokenScores, batch: TrainingBatch) -> torch.Tensor | float:
    """Return what TRL adds to the policy term: the bonus for entropy, and the loss of routers.

    Call it before TRL's loss, which may change the coefficient of the bonus.
    """
    parts = trainer.current_gradient_accumulation_steps if trainer.model.training else 1
    found: torch.Tensor | float = 0.0
    if trainer.aux_loss_enabled and scores.aux_loss is not None:
        found = trainer.router_aux_loss_coef * scores.aux_loss / parts
    is_paid = not trainer.use_adaptive_entropy or trainer._last_world_entropy <= trainer.args.entropy_target
    if trainer._entropy_bonus_enabled and is_paid and scores.entropies_BC is not None:
        mask_BC = loss_mask(batch.rollouts, width=batch.width, device=scores.logps_BC.device).long()
        if trainer.top_entropy_quantile < 1.0:
            threshold = 1 - trainer.top_entropy_quantile
            mask_BC = mask_BC * trainer.get_high_entropy_mask(scores.entropies_BC, mask_BC, threshold)
        entropy = (scores.entropies_BC * mask_BC).sum() / mask_BC.sum().clamp(min=1.0)
        found = found - trainer.entropy_coef * entropy / parts
    return found


def loss_inputs(batch: TrainingBatch, scores: TokenScores) -> dict[str, Any]:
    """Return the entries of a TRL batch that its loss reads; prompts are left out, because they are scored already.

    ``completion_mask`` is the mask of the loss: tokens of the environment and of masked rollouts are 0 in it.
    """
    device, rollouts = scores.logps_BC.device, batch.rollouts
    mask_BC = loss_mask(rollouts, width=batch.width, device=device).long()
    nothing_B0 = mask_BC[:, :0]
    inputs = {
        "prompt_ids": nothing_B0,
        "prompt_mask": nothing_B0,
        "completion_ids": mask_BC,  # TRL reads its width
        "completion_mask": mask_BC,
        "advantages": batch.advantages,
        "num_items_in_batch": batch.num_trained_tokens,
        "old_per_token_logps": batch.old_logps_BC,
        "ref_per_token_logps": batch.reference_logps_BC,
        "importance_sampling_ratio": batch.sampling_ratio,
    }
    if any(rollout.sampling_logps is not None for rollout in rollouts):
        inputs["sampling_per_token_logps"] = sampling_logps(batch, device=device)
    return {name: value for name, value in inputs.items() if value is not None}
