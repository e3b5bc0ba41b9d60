"""Gemma 3: image tokens see each other in both directions, inside sliding windows where a layer has one."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.models.families.family import Family


class Gemma3Family(Family):
    """`pixel_values` `[1, C, H, W]` per image (or its crops); the text backbone mixes full and sliding layers."""

    model_types = ("gemma3",)
    bidirectional_images = True

    def forward_extras(self, image_mask_BT: torch.Tensor) -> dict[str, Any]:
        """The model builds its bidirectional masks from `token_type_ids` (1 = image)."""
        return {"token_type_ids": image_mask_BT.long()}
