"""Qwen2-VL to Qwen3.5, dense and with experts."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case
from .parts import BUDGET, EXPERTS, INTERLEAVED, LINEAR, MROPE, PATCHES, text, whole
from .tokenizer import build_tokenizer, chat_template

MARKER = "<|vision_start|><|image_pad|><|vision_end|>"
VISION = {
    "depth": 3,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 2,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 16,
}
DEEPSTACK = {**VISION, "deepstack_visual_indexes": [0, 1]}


def processor(cls: type) -> Any:
    tokenizer = build_tokenizer("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    images = hf.Qwen2VLImageProcessor(**PATCHES, **BUDGET)
    return whole(cls, images, tokenizer, chat_template=chat_template(MARKER))


def config(cls: type, tokenizer: Any, *, text_config: dict[str, Any], vision_config: dict[str, Any]) -> Any:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    return cls(text_config=text_config, vision_config=vision_config, tie_word_embeddings=False, **ids)


def qwen2_vl(tokenizer: Any) -> torch.nn.Module:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 2}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2}
    made = config(hf.Qwen2VLConfig, tokenizer, text_config=text(tokenizer, rope_parameters=MROPE), vision_config=vision)
    return hf.Qwen2VLForConditionalGeneration(made)


def qwen2_5_vl(tokenizer: Any) -> torch.nn.Module:
    vision = {**VISION, "depth": 2, "window_size": 8, "fullatt_block_indexes": [1]}
    del vision["num_position_embeddings"]
    made = config(
        hf.Qwen2_5_VLConfig, tokenizer, text_config=text(tokenizer, rope_parameters=MROPE), vision_config=vision
    )
    return hf.Qwen2_5_VLForConditionalGeneration(made)


def qwen3_vl(tokenizer: Any) -> torch.nn.Module:
    own = text(tokenizer, head_dim=8, rope_parameters=INTERLEAVED)
    made = config(hf.Qwen3VLConfig, tokenizer, text_config=own, vision_config=DEEPSTACK)
    return hf.Qwen3VLForConditionalGeneration(made)


def qwen3_vl_moe(tokenizer: Any) -> torch.nn.Module:
    own = text(tokenizer, head_dim=8, rope_parameters=INTERLEAVED, decoder_sparse_step=1, **EXPERTS)
    made = config(hf.Qwen3VLMoeConfig, tokenizer, text_config=own, vision_config=DEEPSTACK)
    return hf.Qwen3VLMoeForConditionalGeneration(made)


def hybrid(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Three layers, two of them gated delta networks."""
    return text(
        tokenizer,
        **LINEAR,
        num_hidden_layers=3,
        head_dim=8,
        rope_parameters={**INTERLEAVED, "partial_rotary_factor": 1.0},
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        **more,
    )


def qwen3_5(tokenizer: Any) -> torch.nn.Module:
    made = config(hf.Qwen3_5Config, tokenizer, text_config=hybrid(tokenizer), vision_config=VISION)
    return hf.Qwen3_5ForConditionalGeneration(made)


def qwen3_5_moe(tokenizer: Any) -> torch.nn.Module:
    own = hybrid(tokenizer, **EXPERTS, shared_expert_intermediate_size=16)
    made = config(hf.Qwen3_5MoeConfig, tokenizer, text_config=own, vision_config=VISION)
    return hf.Qwen3_5MoeForConditionalGeneration(made)


CASES = {
    "qwen2_vl": Case(note="Qwen2-VL", processor=lambda: processor(hf.Qwen2VLProcessor), model=qwen2_vl, marker=MARKER),
    "qwen2_5_vl": Case(
        note="Qwen2.5-VL", processor=lambda: processor(hf.Qwen2_5_VLProcessor), model=qwen2_5_vl, marker=MARKER
    ),
    "qwen3_vl": Case(
        note="Qwen3-VL: deepstack rows", processor=lambda: processor(hf.Qwen3VLProcessor), model=qwen3_vl, marker=MARKER
    ),
    "qwen3_vl_moe": Case(
        note="Qwen3-VL with experts",
        processor=lambda: processor(hf.Qwen3VLProcessor),
        model=qwen3_vl_moe,
        marker=MARKER,
    ),
    "qwen3_5": Case(
        note="Qwen3.5, Qwen3.6: linear attention",
        processor=lambda: processor(hf.Qwen3VLProcessor),
        model=qwen3_5,
        marker=MARKER,
        spared="linear_attn",
    ),
    "qwen3_5_moe": Case(
        note="Qwen3.5 with experts",
        processor=lambda: processor(hf.Qwen3VLProcessor),
        model=qwen3_5_moe,
        marker=MARKER,
        spared="linear_attn",
    ),
}
