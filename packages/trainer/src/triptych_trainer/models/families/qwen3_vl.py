"""Qwen3-VL, dense and mixture of experts: as Qwen2.5-VL, with deepstack rows for the first decoder layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych_kernels import MergePlan

from triptych_trainer.models.families.features import ImageFeatures, ImageInputs, TokenRows
from triptych_trainer.models.families.qwen_vl import QwenVLFamily
from triptych_trainer.upstream.transformers_names import rows_per_layer


class Qwen3VLFamily(QwenVLFamily):
    """Takes deepstack rows: the tower also returns rows of intermediate layers, which the text backbone adds to its
    first layers.
    """

    model_types = ("qwen3_vl", "qwen3_vl_moe", "cosmos3_omni", "cohere_compass")

    def read_features(self, output: Any, *, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Return merged rows and one deepstack tensor `[N, D]` per layer."""
        features = super().read_features(output, images=images)
        deepstack = rows_per_layer(output.deepstack_features)
        return ImageFeatures(rows=features.rows, counts=features.counts, deepstack=deepstack)

    def before_language_model(
        self, kwargs: dict[str, Any], config: Any, *, features: ImageFeatures, plan: MergePlan, rows: TokenRows
    ) -> None:
        """Hand over the deepstack rows in the order of the image positions, repeated where rows share an image."""
        mask_BT = plan.src >= 0
        source_S = plan.src[mask_BT]
        kwargs["visual_pos_masks"] = mask_BT
        kwargs["deepstack_visual_embeds"] = [rows_ND[source_S] for rows_ND in features.deepstack]
