"""Rotary positions of every prompt of a batch, and of the completions that images arrived in, computed on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.merge import check_counts, image_places
from triptych_trainer.models.families import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPositions:
    """Says where every token of a batch is, on each of A rotary axes (1, or 3 for M-RoPE)."""

    prompts: tuple[torch.Tensor, ...]
    """`[A, L_p]` for each prompt."""
    following: tuple[int, ...]
    """For each prompt, the position of the first token after it."""
    completions: Mapping[tuple[int, int], torch.Tensor]
    """`[A, C]` for each completion with an image, by prompt and number; the others count on from the prompt."""

    def of(self, prompt: int, completion: int, *, num_tokens: int) -> torch.Tensor:
        """Return the first positions `[A, num_tokens]` of a completion; after its end they count on from the last."""
        following, num_axes = self.following[prompt], self.prompts[prompt].shape[0]
        known_AC = self.completions.get((prompt, completion))
        if known_AC is None:
            return torch.arange(following, following + num_tokens).expand(num_axes, -1)
        after = int(known_AC.max()) + 1
        behind_AT = torch.arange(after, after + max(0, num_tokens - known_AC.shape[1])).expand(num_axes, -1)
        return torch.cat([known_AC[:, :num_tokens], behind_AT], dim=1)


def batch_positions(family: Family, vision_language_model: torch.nn.Module, batch: GroupBatch) -> BatchPositions:
    """Return the positions of a batch.

    A completion with images is counted alone and moved to the end of its prompt: in all families a text has the same
    rotary positions wherever it begins, and the prompt's own are computed once.

    Raises:
        BatchError: an image that is known to give another number of rows than its span has placeholders.
    """
    prompts = [(p, 0, 0) for p in range(len(batch.prompts))]
    completions = [(p, g, 0, 0) for p, group in enumerate(batch.completions) for g in range(len(group))]
    places = image_places(batch, starts=prompts, completion_starts=completions)
    check_counts(places, [family.num_rows(vision_language_model, image) for image in batch.images])
    pairs = [
        family.positions(vision_language_model, ids, spans=batch.spans[p], images=batch.images_of(p))
        for p, ids in enumerate(batch.prompts)
    ]
    own: dict[tuple[int, int], torch.Tensor] = {}
    for p, group in enumerate(batch.completion_images):
        for g, row in enumerate(group):
            if row:
                alone_AC, _ = family.positions(
                    vision_language_model,
                    batch.completions[p][g],
                    spans=[found.span for found in row],
                    images=batch.images_in(p, g),
                )
                own[p, g] = alone_AC - int(alone_AC[:, 0].min()) + pairs[p][1]
    return BatchPositions(
        prompts=tuple(positions_AL for positions_AL, _ in pairs),
        following=tuple(following for _, following in pairs),
        completions=own,
    )
