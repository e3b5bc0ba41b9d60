"""Qwen3.5: three in four layers are gated delta networks, whose state runs from token to token."""

from __future__ import annotations

from triptych_trainer.models.families.family import SharingPath
from triptych_trainer.models.families.qwen_vl import QwenVLFamily


class Qwen35Family(QwenVLFamily):
    """Takes images as Qwen2.5-VL does; prompts share a cache, as a packed row would hand on a completion's state."""

    model_types = ("qwen3_5", "qwen3_5_moe")
    path: SharingPath = "cache"
