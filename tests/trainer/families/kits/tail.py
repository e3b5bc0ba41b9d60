"""Further families, most of them like one above under another name."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from . import qwen
from .case import Case
from .llava import CLIP, CROP, PINPOINTS, padded_tiles, pixtral_joint
from .parts import BUDGET, INTERLEAVED, MROPE, PATCHES, PIXTRAL, SIGLIP, VIT, text, whole
from .tokenizer import build_tokenizer, chat_template


def deepseek_processor(cls: type, image_processor: type) -> Any:
    named = {"image_token": "<image_placeholder>"}
    images = image_processor(size={"height": 16, "width": 16}, min_size=4)
    template = chat_template("<image_placeholder>")
    return cls(images, build_tokenizer(named=named), num_image_tokens=16, chat_template=template)


def deepseek_vl(tokenizer: Any) -> torch.nn.Module:
    config = hf.DeepseekVLConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=SIGLIP,
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    return hf.DeepseekVLForConditionalGeneration(config)


def hybrid_processor() -> Any:
    images = hf.DeepseekVLHybridImageProcessor(
        size={"height": 16, "width": 16}, high_res_size={"height": 32, "width": 32}, min_size=4
    )
    tokenizer = build_tokenizer(named={"image_token": "<image_placeholder>"})
    template = chat_template("<image_placeholder>")
    return hf.DeepseekVLHybridProcessor(images, tokenizer, num_image_tokens=16, chat_template=template)


def hybrid(tokenizer: Any) -> torch.nn.Module:
    sam = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 8}
    config = hf.DeepseekVLHybridConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=SIGLIP,
        high_res_vision_config={**sam, "image_size": 32, "patch_size": 4, "window_size": 4, "global_attn_indexes": [1]},
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    return hf.DeepseekVLHybridForConditionalGeneration(config)


def aria_processor() -> Any:
    images = hf.AriaImageProcessor(max_image_size=980, min_image_size=10)
    tokenizer = build_tokenizer(named={"image_token": "<|img|>"})
    return hf.AriaProcessor(images, tokenizer, chat_template=chat_template("<|img|>"), size_conversion={980: 4})


def aria(tokenizer: Any) -> torch.nn.Module:
    config = hf.AriaConfig(
        text_config=text(tokenizer, model_type="aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        vision_config={**VIT, "image_size": 980, "patch_size": 140, "model_type": "idefics3_vision"},
        projector_patch_to_query_dict={49: 4},
        image_token_index=tokenizer.image_token_id,
    )
    return hf.AriaForConditionalGeneration(config)


def lighton_processor() -> Any:
    named = {"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>", "image_end_token": "<|vision_end|>"}
    images = hf.PixtralImageProcessor(size={"longest_edge": 32}, patch_size={"height": 8, "width": 8})
    return hf.LightOnOcrProcessor(
        images,
        build_tokenizer(named=named),
        patch_size=4,
        spatial_merge_size=2,
        chat_template=chat_template("<|image_pad|>"),
    )


def lighton(tokenizer: Any) -> torch.nn.Module:
    config = hf.LightOnOcrConfig(
        text_config=text(tokenizer, model_type="qwen3", head_dim=8),
        vision_config=PIXTRAL,
        spatial_merge_size=2,
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    return hf.LightOnOcrForConditionalGeneration(config)


def next_video_processor() -> Any:
    images = hf.LlavaNextImageProcessor(**CROP, image_grid_pinpoints=PINPOINTS)
    tokenizer = build_tokenizer(named={"image_token": "<image>", "video_token": "<video>"})
    return whole(
        hf.LlavaNextVideoProcessor,
        images,
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )


def next_video(tokenizer: Any) -> torch.nn.Module:
    config = hf.LlavaNextVideoConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=CLIP,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    return hf.LlavaNextVideoForConditionalGeneration(config)


def exaone_processor() -> Any:
    tokenizer = build_tokenizer("<vision>", "</vision>", "<|image_pad|>", "<|video_pad|>")
    images = hf.Qwen2VLImageProcessor(**PATCHES, **BUDGET)
    marker = chat_template("<vision><|image_pad|></vision>")
    return hf.Exaone4_5_Processor(images, tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=marker)


def exaone(tokenizer: Any) -> torch.nn.Module:
    vision = {**qwen.VISION, "depth": 2, "window_size": 8, "fullatt_block_indexes": [1], "num_key_value_heads": 2}
    del vision["num_position_embeddings"]
    layers = {"sliding_window": 10, "layer_types": ["sliding_attention", "full_attention"]}
    config = hf.Exaone4_5_Config(
        text_config=text(tokenizer, model_type="exaone4", **layers),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return hf.Exaone4_5_ForConditionalGeneration(config)


def hyperclovax_processor() -> Any:
    tokenizer = build_tokenizer("<|image_pad|>", "<|video_pad|>")
    images = hf.Qwen2VLImageProcessor(**PATCHES, **BUDGET)
    template = chat_template("<|image_pad|>")
    return hf.HyperCLOVAXVisionV2Processor(images, tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=template)


def hyperclovax(tokenizer: Any) -> torch.nn.Module:
    vision = {**qwen.VISION, "depth": 2, "window_size": 8, "fullatt_block_indexes": [1]}
    del vision["num_position_embeddings"]
    config = hf.HyperCLOVAXVisionV2Config(
        text_config=text(tokenizer, model_type="hyperclovax", logits_scaling=0.5, embedding_multiplier=2.0),
        vision_config={**vision, "model_type": "qwen2_5_vl_vision"},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        tie_word_embeddings=False,
    )
    return hf.HyperCLOVAXVisionV2ForConditionalGeneration(config)


def video_llama_processor() -> Any:
    tokenizer = build_tokenizer("<|image_pad|>", "<|video_pad|>")
    images = hf.VideoLlama3ImageProcessor(
        patch_size=2, merge_size=2, temporal_patch_size=1, min_tokens=2, max_tokens=64
    )
    return whole(hf.VideoLlama3Processor, images, tokenizer, chat_template=chat_template("<|image_pad|>"))


def video_llama(tokenizer: Any) -> torch.nn.Module:
    vision = {key: VIT[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    config = hf.VideoLlama3Config(
        text_config=text(tokenizer, model_type="qwen2"),
        vision_config={**vision, "patch_size": 2},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return hf.VideoLlama3ForConditionalGeneration(config)


def cosmos(tokenizer: Any) -> torch.nn.Module:
    own = text(tokenizer, head_dim=8, rope_parameters=INTERLEAVED, model_type="qwen3_vl_text")
    vision = {**qwen.DEEPSTACK, "model_type": "qwen3_vl_vision"}
    config = qwen.config(hf.Cosmos3OmniConfig, tokenizer, text_config=own, vision_config=vision)
    return hf.Cosmos3OmniForConditionalGeneration(config)


COMPASS = ("<|VISION_START|>", "<|IMAGE_PAD|>", "<|VISION_END|>", "<|VIDEO_PAD|>")


def compass_processor() -> Any:
    images = hf.CohereCompassImageProcessor(**PATCHES, **BUDGET)
    template = chat_template("".join(COMPASS[:3]))
    return whole(hf.CohereCompassProcessor, images, build_tokenizer(*COMPASS), chat_template=template)


def compass(tokenizer: Any) -> torch.nn.Module:
    names = ("vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id")
    own = text(
        tokenizer,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"sliding_attention": MROPE, "full_attention": MROPE},
        sliding_window=10,
    )
    config = hf.CohereCompassConfig(
        text_config=own,
        vision_config=qwen.DEEPSTACK,
        tie_word_embeddings=False,
        **dict(zip(names, tokenizer.convert_tokens_to_ids(list(COMPASS)), strict=True)),
    )
    return hf.CohereCompassForConditionalGeneration(config)


CASES = {
    "deepseek_vl": Case(
        note="DeepSeek-VL",
        processor=lambda: deepseek_processor(hf.DeepseekVLProcessor, hf.DeepseekVLImageProcessor),
        model=deepseek_vl,
        marker="<image_placeholder>",
    ),
    "deepseek_vl_hybrid": Case(
        note="DeepSeek-VL with two towers",
        processor=hybrid_processor,
        model=hybrid,
        marker="<image_placeholder>",
    ),
    "aria": Case(note="Aria: experts", processor=aria_processor, model=aria, marker="<|img|>"),
    "lighton_ocr": Case(
        note="LightOnOCR", processor=lighton_processor, model=lighton, marker="<|image_pad|>", joint=pixtral_joint
    ),
    "llava_next_video": Case(
        note="LLaVA-NeXT-Video, for images",
        processor=next_video_processor,
        model=next_video,
        marker="<image>",
        joint=padded_tiles,
    ),
    "exaone4_5": Case(
        note="EXAONE 4.5: sliding layers",
        processor=exaone_processor,
        model=exaone,
        marker="<vision><|image_pad|></vision>",
    ),
    "hyperclovax_vision_v2": Case(
        note="HyperCLOVA X SEED Think: scaled embeddings and logits",
        processor=hyperclovax_processor,
        model=hyperclovax,
        marker="<|image_pad|>",
    ),
    "video_llama_3": Case(
        note="VideoLLaMA 3, for images", processor=video_llama_processor, model=video_llama, marker="<|image_pad|>"
    ),
    "cohere_compass": Case(
        note="Cohere Compass: deepstack rows, sliding layers",
        processor=compass_processor,
        model=compass,
        marker="".join(COMPASS[:3]),
    ),
    "cosmos3_omni": Case(
        note="Cosmos 3 Omni", processor=lambda: qwen.processor(hf.Qwen3VLProcessor), model=cosmos, marker=qwen.MARKER
    ),
}
