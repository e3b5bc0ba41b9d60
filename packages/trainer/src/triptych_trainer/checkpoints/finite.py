"""A checkpoint or a result is never replaced by weights that are not numbers."""

from pathlib import Path
from typing import Any

import torch

from triptych_trainer.checkpoints.folder import CheckpointError, checkpoints, defect
from triptych_trainer.checkpoints.ranks import any_rank

__all__ = ["check_finite"]


def check_finite(model: torch.nn.Module, *, output: Path, step: int, device: Any) -> None:
    """Check that every trained weight is a number, in one pass over the part of them that this rank has.

    Raises:
        CheckpointError: on every rank, when a weight on any rank is infinite or no number.
    """
    found = next(
        (name for name, values in model.named_parameters() if values.requires_grad and not _is_finite(values)), None
    )
    if not any_rank(found is not None, device=device):
        return
    where = f"{found} has infinite values or values that are no numbers" if found else "those of another rank"
    whole = next((folder.name for folder in checkpoints(output) if defect(folder, deep=False) is None), None)
    remedy = f"go on from {whole}" if whole else "start again"
    raise CheckpointError(
        f"the weights after step {step} cannot be used any more ({where}), so they are not saved; {remedy} with a "
        "lower --learning_rate or --max_grad_norm, and look for a reward or a --beta that makes the loss infinite"
    )


def _is_finite(values: torch.Tensor) -> bool:
    local = getattr(values, "to_local", lambda: values)().detach()
    return local.numel() == 0 or bool(torch.linalg.vector_norm(local, float("inf")).isfinite())
