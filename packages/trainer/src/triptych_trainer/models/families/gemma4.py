"""Gemma 4, with a vision tower or without one: images are seen both ways in sliding layers only, and of any shape."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.models.families.family import Family, ImageAttention
from triptych_trainer.models.families.features import ImageInputs, TokenRows


class Gemma4Family(Family):
    """Takes `pixel_values` `[1, patches, D]` and `image_position_ids` `[1, patches, 2]` per image, padded to one
    length.
    """

    model_types: tuple[str, ...] = ("gemma4",)
    types_cover_cache = True

    def image_attention(self, text_config: Any, *, window: int | None) -> ImageAttention:
        """Let the tokens of one image see each other in sliding layers, in the models that are configured so."""
        both = window is not None and text_config.use_bidirectional_attention == "vision"
        return "both_ways_in_window" if both else "causal"

    def forward_extras(self, config: Any, rows: TokenRows) -> dict[str, Any]:
        """Return `mm_token_type_ids` (1 = image), from which the model builds its bidirectional masks."""
        return {} if rows.packed else {"mm_token_type_ids": rows.images.long()}

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one row: as many patches as are pooled into it."""
        vision = vision_language_model.config.vision_config
        side = torch.arange(vision.pooling_kernel_size)
        places = torch.cartesian_prod(side, side).flip(-1)
        pixels = torch.zeros(1, len(places), 3 * vision.patch_size**2)
        return {"pixel_values": pixels, "image_position_ids": places.unsqueeze(0)}


class Gemma4UnifiedFamily(Gemma4Family):
    """Projects merged patches, one row each, because this Gemma 4 has no vision tower."""

    model_types = ("gemma4_unified",)

    def image_attention(self, text_config: Any, *, window: int | None) -> ImageAttention:
        """Let the tokens of one image see each other in every layer, also beyond the window, as the model's own forward
        does.
        """
        return "both_ways" if text_config.use_bidirectional_attention == "vision" else "causal"

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one merged patch."""
        vision = vision_language_model.config.vision_config
        pixels = torch.zeros(1, 1, 3 * vision.model_patch_size**2)
        return {"pixel_values": pixels, "image_position_ids": torch.zeros(1, 1, 2, dtype=torch.long)}
