"""One supervised step of a demo's warm-up: Muon for the hidden matrices, AdamW for the rest."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from triptych_trainer.demo.batches import NOT_SCORED

__all__ = ["move_shares", "optimizers_of", "scale_learning_rates", "train_step"]


def optimizers_of(
    model: Any, *, muon_learning_rate: float, muon_momentum: float, adamw_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Build the optimizers: Muon for hidden matrices, AdamW for embeddings, norms, biases and patch projection."""
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in embeddings]
    taken = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in taken]
    return [
        torch.optim.Muon(matrices, lr=muon_learning_rate, momentum=muon_momentum, weight_decay=0.0),
        torch.optim.AdamW(others, lr=adamw_learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def scale_learning_rates(optimizers: Sequence[torch.optim.Optimizer], *, scale: float) -> None:
    """Set every learning rate to this share of the one that its optimizer began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * scale


def train_step(
    model: Any, batch: tuple[dict[str, torch.Tensor], torch.Tensor], *, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[float, torch.Tensor]:
    """Take one step; return the loss and, per row, whether it was predicted right token for token."""
    inputs, labels_BT = batch
    logits_BTV, targets_BT = model(**inputs, use_cache=False).logits[:, :-1], labels_BT[:, 1:]
    loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=NOT_SCORED)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    right_BT = (logits_BTV.argmax(-1) == targets_BT) | (targets_BT == NOT_SCORED)
    return loss.item(), right_BT.all(dim=1)


def move_shares(shares: dict[Any, float], *, kinds: Sequence[str], right_B: torch.Tensor) -> None:
    """Move each kind's running share of right rows by a tenth towards the batch's share."""
    for kind in shares:
        scores = [float(right) for own, right in zip(kinds, right_B, strict=True) if own == kind]
        if scores:
            shares[kind] += 0.1 * (sum(scores) / len(scores) - shares[kind])
