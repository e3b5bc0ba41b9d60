"""Pieces of configurations that several families share."""

from __future__ import annotations

from typing import Any

import transformers as hf

MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
INTERLEAVED = {**MROPE, "mrope_interleaved": True}
"""As published: transformers interleaves the axes in any case, and vLLM where it reads this."""
VIT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 3,
}
SIGLIP = {**VIT, "model_type": "siglip_vision_model", "vision_use_head": False}
PIXTRAL = {**VIT, "image_size": 64, "head_dim": 8, "model_type": "pixtral"}
PATCHES = {"patch_size": 2, "merge_size": 2, "temporal_patch_size": 2}
"""Image processors of the Qwen family: squares of 2 x 2 patches of 2 x 2 pixels become a row."""
BUDGET = {"size": {"shortest_edge": 64, "longest_edge": 256}}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 4,
}


def text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """A text backbone of two layers over the tokenizer's vocabulary."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        **more,
    }


def whole(cls: type, image_processor: Any, tokenizer: Any, **settings: Any) -> Any:
    """A stock processor with all of its parts; those for videos and audio have their defaults."""
    parts: dict[str, Any] = {"image_processor": image_processor, "tokenizer": tokenizer}
    if "video_processor" in cls.get_attributes():
        name = cls.__name__.replace("Qwen2_5_VL", "Qwen2VL").replace("Processor", "VideoProcessor")
        font = {"draw_on_frames": False} if name.startswith("Ernie") else {}  # the font file comes with the model
        parts["video_processor"] = getattr(hf, name)(**font)
    if "feature_extractor" in cls.get_attributes():
        parts["feature_extractor"] = getattr(hf, cls.__name__.replace("Processor", "AudioFeatureExtractor"))()
    return cls(**parts, **settings)
