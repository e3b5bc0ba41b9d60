"""Gemma 3, whose tokens of an image see each other in both directions, and Gemma 3n, whose tokens do not."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.models.families.family import Family, ImageAttention
from triptych_trainer.models.families.features import ImageInputs, TokenRows


class Gemma3Family(Family):
    """Takes `pixel_values` `[1, C, H, W]` per image (or its crops); the text backbone mixes full and sliding layers."""

    model_types = ("gemma3",)
    types_cover_cache = True

    def image_attention(self, text_config: Any, *, window: int | None) -> ImageAttention:
        """Let the tokens of one image see each other in every layer, as far as its window reaches."""
        return "both_ways_in_window"

    def forward_extras(self, config: Any, rows: TokenRows) -> dict[str, Any]:
        """Return `token_type_ids` (1 = image), from which the model builds its bidirectional masks."""
        return {} if rows.packed else {"token_type_ids": rows.images.long()}


class Gemma3nFamily(Family):
    """Takes `pixel_values` `[1, C, H, W]` per image, for a tower of timm; type ids change nothing, because images are
    causal.
    """

    model_types = ("gemma3n",)

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of the size that timm states for the tower."""
        return {
            "pixel_values": torch.zeros(1, *vision_language_model.vision_tower.timm_model.default_cfg["input_size"])
        }
