"""Rotary positions of every prompt of a batch, computed once per prompt on the host."""

from __future__ import annotations

import torch

from triptych_trainer.families import Family
from triptych_trainer.sharing.batch import GroupBatch


def prompt_positions(
    family: Family, vision_language_model: torch.nn.Module, batch: GroupBatch
) -> tuple[list[torch.Tensor], list[int]]:
    """Per prompt: position ids `[A, L_p]`, and the position of the first completion token."""
    pairs = [
        family.positions(vision_language_model, ids, spans=batch.spans[p], images=batch.images_of(p))
        for p, ids in enumerate(batch.prompts)
    ]
    return [positions for positions, _ in pairs], [following for _, following in pairs]
