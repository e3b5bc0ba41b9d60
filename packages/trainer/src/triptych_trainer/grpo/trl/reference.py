"""Whether every rank has the weights of the reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor

from triptych_trainer.errors import UsageError

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["check_reference", "has_weights"]


def check_reference(trainer: MultiImageGRPOTrainer) -> None:
    """Refuse a reference model that some ranks did not load.

    With ``fsdp_cpu_ram_efficient_loading`` the first rank alone reads the weights. Accelerate sends those of the model
    that is trained to the other ranks, but TRL shards its reference model without sending anything, and transformers
    before 5.23 leaves zeros there. The KL term would then compare with a model that nobody has trained.

    Raises:
        UsageError: on a rank every weight matrix of the reference model is zero.
    """
    if trainer.ref_model is None or trainer.accelerator.num_processes == 1:
        return
    missing = torch.tensor([0 if has_weights(trainer.ref_model) else 1], device=trainer.accelerator.device)
    num_missing = int(trainer.accelerator.gather(missing).sum())
    if num_missing:
        raise UsageError(
            f"beta: the reference model has only zeros on {num_missing} of {trainer.accelerator.num_processes} ranks, "
            "because one rank loads the weights and nothing sends them to the others; write "
            "`fsdp_cpu_ram_efficient_loading: false` into the file of accelerate, or use transformers 5.23 or later"
        )


def has_weights(model: torch.nn.Module) -> bool:
    """Return whether any weight matrix of a model, or this rank's part of it, contains something else than zeros."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    parts = [part.to_local() if isinstance(part, DTensor) else part for part in (one.detach() for one in matrices)]
    filled = [part for part in parts if part.numel()]
    return not filled or any(bool(part.any()) for part in filled)
