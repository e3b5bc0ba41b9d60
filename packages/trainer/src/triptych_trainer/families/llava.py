"""LLaVA: one tile per image, one row per patch, plain positions: the defaults."""

from __future__ import annotations

from triptych_trainer.families.family import Family


class LlavaFamily(Family):
    """`pixel_values` `[1, C, H, W]` per image."""

    model_types = ("llava",)
