"""Ovis2: the tower also makes the embeddings of the tokens around an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from triptych_kernels import MergePlan

from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs, TokenRows


class Ovis2Family(Family):
    """Takes `pixel_values` `[tiles, C, H, W]` per image; beginning, end and tile breaks take rows that all images
    share.
    """

    model_types = ("ovis2",)

    def read_features(self, output: Any, *, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Return the rows of every tile, and one row for each of the tokens around them."""
        features = super().read_features(output, images=images)
        return replace(features, common=output.visual_indicator_features)

    def before_language_model(
        self, kwargs: dict[str, Any], config: Any, *, features: ImageFeatures, plan: MergePlan, rows: TokenRows
    ) -> None:
        """Put the common rows where the indicator tokens are."""
        assert features.common is not None
        embeds_BTD = kwargs["inputs_embeds"]
        common_KD = features.common.to(embeds_BTD.device, embeds_BTD.dtype)
        for token, row_D in zip(config.visual_indicator_token_ids, common_KD, strict=True):
            where_BT1 = (rows.ids == token).unsqueeze(-1).to(embeds_BTD.device)
            embeds_BTD = torch.where(where_BT1, row_D, embeds_BTD)
        kwargs["inputs_embeds"] = embeds_BTD

    def image_token_ids(self, config: Any) -> tuple[int, ...]:
        """Return the ids that the base class finds, and the indicator tokens."""
        return tuple(sorted({*super().image_token_ids(config), *config.visual_indicator_token_ids}))
