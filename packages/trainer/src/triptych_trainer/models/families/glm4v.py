"""GLM-4.1V: packed patches and M-RoPE as in Qwen2-VL; positions are given for text and image runs alike."""

from __future__ import annotations

from triptych_trainer.models.families.qwen_vl import QwenVLFamily


class Glm4vFamily(QwenVLFamily):
    """Same inputs as Qwen2-VL. Image and video share one placeholder id."""

    model_types = ("glm4v",)
