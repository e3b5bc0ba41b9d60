"""Qwen3.5: three in four layers are gated delta networks, whose state runs from token to token."""

from __future__ import annotations

from triptych_trainer.models.families.family import SharingPath
from triptych_trainer.models.families.qwen_vl import QwenVLFamily


class Qwen35Family(QwenVLFamily):
    """Images as in Qwen2.5-VL. A packed row would hand one completion's state to the next: prompts share a cache."""

    model_types = ("qwen3_5", "qwen3_5_moe")
    path: SharingPath = "cache"
