"""ERNIE 4.5-VL: GLM's positions, and experts that serve either text or images."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.models.families.features import TokenRows
from triptych_trainer.models.families.glm4v import Glm4vFamily


class ErnieVLFamily(Glm4vFamily):
    """Takes patches without a temporal axis; a token's experts follow from whether it belongs to an image."""

    model_types = ("ernie4_5_vl_moe",)

    def forward_extras(self, config: Any, rows: TokenRows) -> dict[str, Any]:
        """Return the type ids as the processor marks them: placeholders and the tokens around them."""
        edges = torch.tensor([config.image_start_token_id, config.image_end_token_id])
        return {"moe_mm_token_type_ids": (rows.images | torch.isin(rows.ids, edges)).int()}
