"""PaliGemma: every token of a prompt sees the whole prompt, so that completions cannot continue a cached part."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from triptych_trainer.models.families.family import Family, SharingPath
from triptych_trainer.models.families.features import ImageInputs, TokenRows

if TYPE_CHECKING:
    from triptych_parser import ImageSpan


class PaliGemmaFamily(Family):
    """Takes `pixel_values` `[1, C, H, W]` per image; positions begin at 1."""

    model_types = ("paligemma",)
    path: SharingPath = "plain"
    prefills = False
    no_later_images = (
        "every token of its prompt sees the whole prompt and no token after it, and its processor writes images only "
        "before the text"
    )
    completion_types = MappingProxyType({"token_type_ids": 1})

    def positions(
        self,
        vision_language_model: torch.nn.Module,
        ids: Sequence[int],
        *,
        spans: Sequence[ImageSpan],
        images: Sequence[ImageInputs],
    ) -> tuple[torch.Tensor, int]:
        """Return positions that begin at 1."""
        return torch.arange(1, len(ids) + 1).unsqueeze(0), len(ids) + 1

    def forward_extras(self, config: Any, rows: TokenRows) -> dict[str, Any]:
        """Return `token_type_ids`, from which the model builds its masks: 0 is the prompt, 1 what is completed."""
        return {"token_type_ids": rows.completions.long()}
