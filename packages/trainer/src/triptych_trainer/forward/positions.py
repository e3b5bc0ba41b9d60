"""Rotary positions of every prompt of a batch, computed once per prompt on the host."""

from __future__ import annotations

import torch

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.merge import check_counts, image_places
from triptych_trainer.models.families import Family


def prompt_positions(
    family: Family, vision_language_model: torch.nn.Module, batch: GroupBatch
) -> tuple[list[torch.Tensor], list[int]]:
    """Per prompt: position ids `[A, L_p]`, and the position of the first completion token.

    Raises:
        BatchError: an image that is known to give another number of rows than its span has placeholders.
    """
    places = image_places(batch, starts=[(p, 0, 0) for p in range(len(batch.prompts))])
    check_counts(places, [family.num_rows(vision_language_model, image) for image in batch.images])
    pairs = [
        family.positions(vision_language_model, ids, spans=batch.spans[p], images=batch.images_of(p))
        for p, ids in enumerate(batch.prompts)
    ]
    return [positions for positions, _ in pairs], [following for _, following in pairs]
