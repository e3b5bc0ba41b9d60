"""A scored batch in the form that TRL's loss takes, and the answer to the one question that the loss asks back."""

from typing import Any

import torch

from triptych_trainer.grpo.batch import TokenScores, TrainingBatch, loss_mask
from triptych_trainer.grpo.step import sampling_logps

__all__ = ["by_what_remains", "loss_inputs"]

ROW_MEANS = ("grpo", "sapo", "dr_grpo", "luspo")
"""The losses that TRL divides by the number of rows; the others are divided by the number of counted tokens."""


def by_what_remains(loss: torch.Tensor, batch: TrainingBatch, *, loss_type: str) -> torch.Tensor:
    """Return the loss divided by the rows that it counts instead of by all rows, or 0 if none is left."""
    if batch.counted_share is None or loss_type not in ROW_MEANS:
        return loss
    return loss / batch.counted_share if batch.counted_share > 0 else loss * 0.0


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
