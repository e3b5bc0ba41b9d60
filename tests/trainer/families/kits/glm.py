"""GLM-4.1V to GLM-OCR, and two families with the same positions: ERNIE 4.5-VL and PaddleOCR-VL."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case
from .parts import BUDGET, MROPE, PATCHES, VIT, text, whole
from .tokenizer import build_tokenizer, chat_template

MARKER = "<|begin_of_image|><|image|><|end_of_image|>"
VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 2,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "image_size": 16,
}
ROPE = {**MROPE, "partial_rotary_factor": 1.0}


def processor(cls: type, image_processor: type) -> Any:
    names = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    tokenizer = build_tokenizer(*(f"<|{name}|>" for name in names))
    return whole(cls, image_processor(**PATCHES, **BUDGET), tokenizer, chat_template=chat_template(MARKER))


def config(cls: type, tokenizer: Any, **parts: Any) -> Any:
    names = {"image_token_id": "image", "video_token_id": "video"}
    names |= {f"{kind}_start_token_id": f"begin_of_{kind}" for kind in ("image", "video")}
    names |= {f"{kind}_end_token_id": f"end_of_{kind}" for kind in ("image", "video")}
    return cls(**parts, **{name: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()})


def glm4v(tokenizer: Any) -> torch.nn.Module:
    own = text(tokenizer, rope_parameters=ROPE)
    return hf.Glm4vForConditionalGeneration(config(hf.Glm4vConfig, tokenizer, text_config=own, vision_config=VISION))


def glm46v(tokenizer: Any, cls: type = hf.Glm46VConfig) -> torch.nn.Module:
    own = text(tokenizer, rope_parameters=ROPE, model_type="glm4v_text")
    vision = {**VISION, "model_type": "glm4v_vision"}
    return hf.Glm46VForConditionalGeneration(config(cls, tokenizer, text_config=own, vision_config=vision))


def glm4v_moe(tokenizer: Any) -> torch.nn.Module:
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1}
    own = text(tokenizer, rope_parameters=ROPE, **experts, first_k_dense_replace=1)
    made = config(hf.Glm4vMoeConfig, tokenizer, text_config=own, vision_config=VISION)
    return hf.Glm4vMoeForConditionalGeneration(made)


def glm_ocr(tokenizer: Any) -> torch.nn.Module:
    own = text(tokenizer, rope_parameters=ROPE)
    made = config(hf.GlmOcrConfig, tokenizer, text_config=own, vision_config=VISION)
    return hf.GlmOcrForConditionalGeneration(made)


ERNIE_MARKER = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
ERNIE_NAMES = {
    "image_token": "<|IMAGE_PLACEHOLDER|>",
    "image_start_token": "<|IMAGE_START|>",
    "image_end_token": "<|IMAGE_END|>",
    "video_token": "<|VIDEO_PLACEHOLDER|>",
    "video_start_token": "<|VIDEO_START|>",
    "video_end_token": "<|VIDEO_END|>",
}


def ernie_processor() -> Any:
    tokenizer = build_tokenizer(named=ERNIE_NAMES)
    images = hf.Ernie4_5_VLMoeImageProcessor(**{**PATCHES, "temporal_patch_size": 1}, **BUDGET)
    return whole(hf.Ernie4_5_VLMoeProcessor, images, tokenizer, chat_template=chat_template(ERNIE_MARKER))


def ernie(tokenizer: Any) -> torch.nn.Module:
    own = text(
        tokenizer,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        moe_num_experts=4,
        moe_k=2,
        moe_intermediate_size=[16, 12],
        moe_num_shared_experts=1,
        mlp_layer_types=["dense", "sparse"],
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 2}
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in ERNIE_NAMES.items()}
    return hf.Ernie4_5_VLMoeForConditionalGeneration(
        hf.Ernie4_5_VLMoeConfig(text_config=own, vision_config=vision, tie_word_embeddings=False, **ids)
    )


PADDLE_MARKER = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"


def paddle_processor() -> Any:
    tokenizer = build_tokenizer("<|IMAGE_START|>", "<|IMAGE_END|>", named={"image_token": "<|IMAGE_PLACEHOLDER|>"})
    images = hf.PaddleOCRVLImageProcessor(**{**PATCHES, "temporal_patch_size": 1}, **BUDGET)
    return hf.PaddleOCRVLProcessor(images, tokenizer, chat_template=chat_template(PADDLE_MARKER))


def paddle(tokenizer: Any) -> torch.nn.Module:
    ids = {
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": 99999,
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|IMAGE_START|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|IMAGE_END|>"),
    }
    own = text(tokenizer, rope_parameters=MROPE, head_dim=8)
    vision = {**VIT, "patch_size": 2, "spatial_merge_size": 2}
    return hf.PaddleOCRVLForConditionalGeneration(
        hf.PaddleOCRVLConfig(text_config=own, vision_config=vision, tie_word_embeddings=False, **ids)
    )


CASES = {
    "glm4v": Case(
        note="GLM-4.1V",
        processor=lambda: processor(hf.Glm4vProcessor, hf.Glm4vImageProcessor),
        model=glm4v,
        marker=MARKER,
    ),
    "glm46v": Case(
        note="GLM-4.6V",
        processor=lambda: processor(hf.Glm46VProcessor, hf.Glm46VImageProcessor),
        model=glm46v,
        marker=MARKER,
    ),
    "glmga": Case(
        note="GLM-GA, the model of GLM-4.6V",
        processor=lambda: processor(hf.Glm46VProcessor, hf.GlmgaImageProcessor),
        model=lambda tokenizer: glm46v(tokenizer, hf.GlmgaConfig),
        marker=MARKER,
    ),
    "glm4v_moe": Case(
        note="GLM-4.5V: experts",
        processor=lambda: processor(hf.Glm4vProcessor, hf.Glm4vImageProcessor),
        model=glm4v_moe,
        marker=MARKER,
    ),
    "glm_ocr": Case(
        note="GLM-OCR",
        processor=lambda: processor(hf.Glm46VProcessor, hf.Glm46VImageProcessor),
        model=glm_ocr,
        marker=MARKER,
    ),
    "ernie4_5_vl_moe": Case(
        note="ERNIE 4.5-VL: experts for text and for images",
        processor=ernie_processor,
        model=ernie,
        marker=ERNIE_MARKER,
    ),
    "paddleocr_vl": Case(note="PaddleOCR-VL", processor=paddle_processor, model=paddle, marker=PADDLE_MARKER),
}
