"""GLM-4.1V to GLM-OCR: packed patches and M-RoPE as in Qwen2-VL; positions are given for runs of text and of images."""

from __future__ import annotations

import torch

from triptych_trainer.models.families.features import ImageInputs
from triptych_trainer.models.families.qwen_vl import QwenVLFamily


class Glm4vFamily(QwenVLFamily):
    """Takes the same inputs as Qwen2-VL. Image and video share one placeholder id."""

    model_types: tuple[str, ...] = ("glm4v", "glm46v", "glm4v_moe", "glm_ocr", "glmga")


class PaddleOCRFamily(Glm4vFamily):
    """Takes `pixel_values` `[patches, C, P, P]`: patches keep their shape and have no temporal axis."""

    model_types = ("paddleocr_vl",)

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of the smallest even grid."""
        vision = vision_language_model.config.vision_config
        side = 2 * vision.spatial_merge_size
        pixels = torch.zeros(side * side, vision.num_channels, vision.patch_size, vision.patch_size)
        return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, side, side]])}
