"""Gemma 3 and 4, and PaliGemma."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case
from .llava import SQUARE
from .parts import SIGLIP, text, whole
from .tokenizer import build_tokenizer, chat_template

LAYERS = {"head_dim": 8, "sliding_window": 10, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA3 = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
GEMMA3N = {
    **GEMMA3,
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
    "audio_token": "<audio_soft_token>",
}
GEMMA4 = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>"}
GEMMA4 |= {"boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>"}


def gemma3_processor() -> Any:
    return hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(**SQUARE),
        build_tokenizer(named=GEMMA3),
        image_seq_length=16,
        chat_template=chat_template("<start_of_image>"),
    )


def gemma3(tokenizer: Any) -> torch.nn.Module:
    config = hf.Gemma3Config(
        text_config=text(tokenizer, **LAYERS),
        vision_config=SIGLIP,
        mm_tokens_per_image=16,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    return hf.Gemma3ForConditionalGeneration(config)


def gemma3n_processor() -> Any:
    return hf.Gemma3nProcessor(
        feature_extractor=hf.Gemma3nAudioFeatureExtractor(),
        image_processor=hf.SiglipImageProcessor(size={"height": 160, "width": 160}),
        tokenizer=build_tokenizer(named=GEMMA3N),
        image_seq_length=25,
        chat_template=chat_template("<image_soft_token>"),
    )


def gemma3n(tokenizer: Any) -> torch.nn.Module:
    """As the E2B and E4B models, with a small tower of timm's (without norms over a batch, as the real one)."""
    size = len(tokenizer)
    layers = {
        "num_hidden_layers": 4,
        "intermediate_size": [48] * 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": size,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    }
    audio = {"hidden_size": 16, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1}
    config = hf.Gemma3nConfig(
        text_config=text(tokenizer, **{**LAYERS, **layers}),
        vision_config={
            "architecture": "test_efficientnet_ln",
            "hidden_size": 256,
            "vocab_size": 4,
            "vocab_offset": size,
        },
        audio_config={**audio, "sscp_conv_channel_size": [4, 2], "vocab_size": 4, "vocab_offset": size + 4},
        vision_soft_tokens_per_image=25,
        **{f"{name}_id": getattr(tokenizer, f"{name}_id") for name in GEMMA3N},
    )
    return hf.Gemma3nForConditionalGeneration(config)


def gemma4_processor(cls: type = hf.Gemma4Processor, images: type | None = None) -> Any:
    make = images or hf.Gemma4ImageProcessor
    return whole(
        cls,
        image_processor=make(patch_size=2, max_soft_tokens=70, pooling_kernel_size=2),
        tokenizer=build_tokenizer("<|video|>", named=GEMMA4),
        image_seq_length=70,
        chat_template=chat_template("<|image|>"),
    )


def gemma4_ids(tokenizer: Any) -> dict[str, Any]:
    return {
        "boi_token_id": tokenizer.boi_token_id,
        "eoi_token_id": tokenizer.eoi_token_id,
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video|>"),
        "audio_token_id": tokenizer.audio_token_id,
        "audio_config": None,
    }


def gemma4(tokenizer: Any, **own: Any) -> torch.nn.Module:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pooling_kernel_size": 2,
        "patch_size": 2,
        "position_embedding_size": 128,
    }
    base = {**LAYERS, "use_bidirectional_attention": "vision", "hidden_size_per_layer_input": 0, "global_head_dim": 16}
    config = hf.Gemma4Config(
        text_config=text(tokenizer, **{**base, **own}), vision_config=vision, **gemma4_ids(tokenizer)
    )
    return hf.Gemma4ForConditionalGeneration(config)


def gemma4_moe(tokenizer: Any) -> torch.nn.Module:
    experts = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}
    return gemma4(tokenizer, enable_moe_block=True, attention_k_eq_v=True, **experts)


def gemma4_small(tokenizer: Any) -> torch.nn.Module:
    """As the E2B and E4B models: keys and values shared between layers, inputs of every layer, causal images."""
    return gemma4(
        tokenizer,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(tokenizer),
        use_bidirectional_attention=None,
    )


def gemma4_unified(tokenizer: Any) -> torch.nn.Module:
    vision = {
        "patch_size": 2,
        "pooling_kernel_size": 2,
        "mm_embed_dim": 16,
        "mm_posemb_size": 128,
        "output_proj_dims": 16,
    }
    own = text(tokenizer, **LAYERS, use_bidirectional_attention="vision", global_head_dim=16)
    config = hf.Gemma4UnifiedConfig(text_config=own, vision_config=vision, **gemma4_ids(tokenizer))
    return hf.Gemma4UnifiedForConditionalGeneration(config)


CASES = {
    "gemma3": Case(
        note="Gemma 3: images both ways",
        processor=gemma3_processor,
        model=gemma3,
        marker="<start_of_image>",
        placeholder="<image_soft_token>",
    ),
    "gemma4": Case(
        note="Gemma 4: images both ways in sliding layers", processor=gemma4_processor, model=gemma4, marker="<|image|>"
    ),
    "gemma3n": Case(
        note="Gemma 3n: shared keys, inputs of every layer, a tower of timm",
        processor=gemma3n_processor,
        model=gemma3n,
        marker="<image_soft_token>",
        needs="timm",
    ),
    "gemma4_moe": Case(note="Gemma 4 with experts", processor=gemma4_processor, model=gemma4_moe, marker="<|image|>"),
    "gemma4_small": Case(
        note="Gemma 4 E2B, E4B: shared keys, inputs of every layer",
        processor=gemma4_processor,
        model=gemma4_small,
        marker="<|image|>",
    ),
    "gemma4_unified": Case(
        note="Gemma 4 without a vision tower",
        processor=lambda: gemma4_processor(hf.Gemma4UnifiedProcessor, hf.Gemma4UnifiedImageProcessor),
        model=gemma4_unified,
        marker="<|image|>",
    ),
}
