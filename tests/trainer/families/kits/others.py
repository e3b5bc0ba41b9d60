"""Families with inputs or layers of their own: Kimi-K2.5, LFM2-VL, MiniCPM-V, Ovis2, PaliGemma."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case, Stock
from .llava import SQUARE
from .parts import LINEAR, SIGLIP, VIT, text, whole
from .tokenizer import build_tokenizer, chat_template


def kimi_processor() -> Any:
    named = {"image_token": "<|media_pad|>", "video_token": "<|kimi_k25_video_placeholder|>"}
    tokenizer = build_tokenizer("<|media_begin|>", "<|media_end|>", named=named)
    images = hf.Kimi_K25ImageProcessor(size={"max_height": 16, "max_width": 16}, patch_size=2, merge_size=2)
    return whole(hf.Kimi_K25Processor, images, tokenizer, chat_template=chat_template("<|media_pad|>"))


def kimi(tokenizer: Any) -> torch.nn.Module:
    own = text(
        tokenizer,
        model_type="deepseek_v3",
        num_key_value_heads=4,
        q_lora_rank=12,
        kv_lora_rank=12,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        num_nextn_predict_layers=0,
    )
    vision = {key: VIT[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    config = hf.Kimi_K25Config(
        text_config=own,
        vision_config={**vision, "patch_size": 2, "pos_emb_height": 8, "pos_emb_width": 8},
        projection_hidden_size=16,
        image_token_id=tokenizer.image_token_id,
        video_token_id=len(tokenizer),  # outside the vocabulary, as in the released model
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|media_begin|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|media_end|>"),
        tie_word_embeddings=False,
    )
    return hf.Kimi_K25ForConditionalGeneration(config)


LFM2 = ("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")
LFM2_ROWS = tuple(f"<|img_row_{row}_col_{col}|>" for row in range(1, 5) for col in range(1, 5))


def lfm2_processor() -> Any:
    images = hf.Lfm2VlImageProcessor(
        encoder_patch_size=2, tile_size=8, min_image_tokens=2, max_image_tokens=8, max_tiles=4
    )
    return hf.Lfm2VlProcessor(images, build_tokenizer(*LFM2, *LFM2_ROWS), chat_template=chat_template("<image>"))


def lfm2(tokenizer: Any) -> torch.nn.Module:
    own = text(
        tokenizer,
        model_type="lfm2",
        num_hidden_layers=3,
        layer_types=["conv", "full_attention", "conv"],
        block_auto_adjust_ff_dim=False,
    )
    config = hf.Lfm2VlConfig(
        text_config=own,
        vision_config={**VIT, "patch_size": 2, "model_type": "siglip2_vision_model", "num_patches": 64},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=16,
    )
    return hf.Lfm2VlForConditionalGeneration(config)


MINICPM = {"image_token": "<unk>", "video_token": "<video>", "image_start_token": "<image>"}
MINICPM |= {"image_end_token": "</image>", "slice_start_token": "<slice>", "slice_end_token": "</slice>"}
MINICPM |= {"image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"}


def minicpm_processor() -> Any:
    images = hf.MiniCPMV4_6ImageProcessor(patch_size=2, scale_resolution=24, max_slice_nums=4)
    template = chat_template("<unk>")
    return whole(hf.MiniCPMV4_6Processor, images, build_tokenizer(named=MINICPM), chat_template=template)


def minicpm(tokenizer: Any) -> torch.nn.Module:
    own = text(
        tokenizer,
        **LINEAR,
        model_type="qwen3_5_text",
        num_hidden_layers=3,
        head_dim=8,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    )
    config = hf.MiniCPMV4_6Config(
        text_config=own,
        vision_config={**VIT, "image_size": 64, "patch_size": 2, "num_hidden_layers": 3},
        insert_layer_id=1,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    return hf.MiniCPMV4_6ForConditionalGeneration(config)


def minicpm_ocr_processor() -> Any:
    images = hf.MiniCPMOcrImageProcessor(patch_size=2, scale_resolution=24, max_slice_nums=4)
    template = chat_template("<unk>")
    return whole(hf.MiniCPMOcrProcessor, images, build_tokenizer(named=MINICPM), chat_template=template)


def minicpm_ocr(tokenizer: Any) -> torch.nn.Module:
    config = hf.MiniCPMOcrConfig(
        text_config=text(tokenizer, model_type="qwen3", head_dim=8, num_hidden_layers=3),
        vision_config={**VIT, "image_size": 64, "patch_size": 2, "num_hidden_layers": 3},
        insert_layer_id=1,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    return hf.MiniCPMOcrForConditionalGeneration(config)


def side_by_side(parts: list[Stock]) -> Stock:
    """The slices of all images next to each other."""
    return {
        "pixel_values": torch.cat([part["pixel_values"] for part in parts], dim=-1),
        "target_sizes": torch.cat([part["target_sizes"] for part in parts]),
    }


OVIS2 = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")


def ovis2_processor() -> Any:
    images = hf.Ovis2ImageProcessor(**SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    tokenizer = build_tokenizer("<image>", "<IMG_ATOM>", *OVIS2)
    return hf.Ovis2Processor(images, tokenizer, image_seq_length=4, chat_template=chat_template("<image>"))


def ovis2(tokenizer: Any) -> torch.nn.Module:
    config = hf.Ovis2Config(
        text_config=text(tokenizer, model_type="qwen2"),
        vision_config={**VIT, "vocab_size": 24, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(list(OVIS2)),
        vocab_size=len(tokenizer),
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.Ovis2ForConditionalGeneration(config)


def paligemma_processor() -> Any:
    images = hf.SiglipImageProcessor(**SQUARE)
    images.image_seq_length = 16
    tokenizer = build_tokenizer(named={"image_token": "<image>"}, bos_token="<|im_start|>")
    return hf.PaliGemmaProcessor(images, tokenizer, chat_template=chat_template("<image>"))


def paligemma(tokenizer: Any, model_type: str = "gemma", **more: Any) -> torch.nn.Module:
    config = hf.PaliGemmaConfig(
        text_config=text(tokenizer, model_type=model_type, head_dim=8, **more),
        vision_config=SIGLIP,
        image_token_index=tokenizer.image_token_id,
        vocab_size=len(tokenizer),
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def paligemma2(tokenizer: Any) -> torch.nn.Module:
    layers = ["sliding_attention", "full_attention"]
    return paligemma(tokenizer, "gemma2", sliding_window=10, layer_types=layers, query_pre_attn_scalar=8)


CASES = {
    "kimi_k25": Case(
        note="Kimi-K2.5-VL: latent attention, experts", processor=kimi_processor, model=kimi, marker="<|media_pad|>"
    ),
    "lfm2_vl": Case(note="LFM2-VL: convolutions over tokens", processor=lfm2_processor, model=lfm2, marker="<image>"),
    "minicpmv4_6": Case(
        note="MiniCPM-V 4.6: slices, linear attention",
        processor=minicpm_processor,
        model=minicpm,
        marker="<unk>",
        joint=side_by_side,
        spared="linear_attn",
    ),
    "minicpm_ocr": Case(
        note="MiniCPM-OCR: slices",
        processor=minicpm_ocr_processor,
        model=minicpm_ocr,
        marker="<unk>",
        joint=side_by_side,
    ),
    "ovis2": Case(
        note="Ovis2: indicator tokens from the tower",
        processor=ovis2_processor,
        model=ovis2,
        marker="<image>",
        placeholder="<IMG_ATOM>",
    ),
    "paligemma": Case(
        note="PaliGemma: the whole prompt both ways",
        processor=paligemma_processor,
        model=paligemma,
        marker="<image>",
        after_prompt={"token_type_ids": 1},
        text_only=False,
    ),
    "paligemma2": Case(
        note="PaliGemma 2: capped scores, sliding layers",
        processor=paligemma_processor,
        model=paligemma2,
        marker="<image>",
        after_prompt={"token_type_ids": 1},
        text_only=False,
    ),
}
