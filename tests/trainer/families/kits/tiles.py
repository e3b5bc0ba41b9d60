"""Families that cut images into tiles: InternVL over several text backbones, SmolVLM and Idefics."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case, Stock
from .llava import SQUARE
from .parts import VIT, text, whole
from .tokenizer import build_tokenizer, chat_template

INTERNVL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def internvl_processor() -> Any:
    images = hf.GotOcr2ImageProcessor(**SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    return whole(
        hf.InternVLProcessor,
        images,
        build_tokenizer(named=INTERNVL),
        image_seq_length=4,
        chat_template=chat_template("<IMG_CONTEXT>\n"),
    )


def internvl(tokenizer: Any, **own: Any) -> torch.nn.Module:
    config = hf.InternVLConfig(
        text_config=text(tokenizer, **{"model_type": "qwen2", **own}),
        vision_config={**VIT, "image_size": [16, 16], "patch_size": [4, 4]},
        image_token_id=tokenizer.context_image_token_id,
        tie_word_embeddings=False,
    )
    return hf.InternVLForConditionalGeneration(config)


def qianfan_processor() -> Any:
    images = hf.GotOcr2ImageProcessor(**SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    tokenizer = build_tokenizer("<image>", named=INTERNVL)
    template = chat_template("<image>\n")
    return hf.QianfanOCRProcessor(images, tokenizer, image_seq_length=4, chat_template=template)


def qianfan(tokenizer: Any) -> torch.nn.Module:
    config = hf.QianfanOCRConfig(
        text_config=text(tokenizer, model_type="qwen3", head_dim=8),
        vision_config={**VIT, "image_size": [16, 16], "patch_size": [4, 4], "drop_path_rate": 0.0},
        image_token_id=tokenizer.context_image_token_id,
    )
    return hf.QianfanOCRForConditionalGeneration(config)


def internvl_gpt_oss(tokenizer: Any) -> torch.nn.Module:
    return internvl(
        tokenizer,
        model_type="gpt_oss",
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=10,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )


def internvl_qwen3_moe(tokenizer: Any) -> torch.nn.Module:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    return internvl(tokenizer, model_type="qwen3_moe", **experts)


SMOLVLM = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>")
ROWS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5))


def smolvlm_processor(cls: type, image_processor: type) -> Any:
    images = image_processor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    template = chat_template("<image>")
    tokenizer = build_tokenizer(*SMOLVLM, *ROWS)
    return whole(cls, images, tokenizer, image_seq_len=4, chat_template=template)


def smolvlm(tokenizer: Any) -> torch.nn.Module:
    config = hf.SmolVLMConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=VIT,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return hf.SmolVLMForConditionalGeneration(config)


def idefics3(tokenizer: Any) -> torch.nn.Module:
    config = hf.Idefics3Config(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=VIT,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return hf.Idefics3ForConditionalGeneration(config)


def idefics2_processor() -> Any:
    images = hf.Idefics2ImageProcessor(size={"shortest_edge": 12, "longest_edge": 32}, do_image_splitting=False)
    tokenizer = build_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    return hf.Idefics2Processor(images, tokenizer, image_seq_len=5, chat_template=chat_template("<image>"))


def idefics2(tokenizer: Any) -> torch.nn.Module:
    perceiver = {"hidden_size": 32, "resampler_n_latents": 5, "resampler_depth": 1, "resampler_n_heads": 2}
    config = hf.Idefics2Config(
        text_config=text(tokenizer, model_type="mistral", head_dim=8, sliding_window=None),
        vision_config={**VIT, "image_size": 32},
        perceiver_config={**perceiver, "resampler_head_dim": 8, "num_key_value_heads": 2},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return hf.Idefics2ForConditionalGeneration(config)


def masked_tiles(parts: list[Stock]) -> Stock:
    """The processor pads the images of all prompts to one size and number."""
    joined = {}
    for name in parts[0]:
        axes = range(1, parts[0][name].dim())
        shape = [max(part[name].shape[axis] for part in parts) for axis in axes]
        rows = []
        for part in parts:
            missing = [size - part[name].shape[axis] for axis, size in zip(axes, shape, strict=True)]
            rows.append(torch.nn.functional.pad(part[name], [n for size in reversed(missing) for n in (0, size)]))
        joined[name] = torch.cat(rows)
    return joined


CASES = {
    "internvl": Case(
        note="InternVL 2.5 to 3.5 over Qwen", processor=internvl_processor, model=internvl, marker="<IMG_CONTEXT>"
    ),
    "internvl_gpt_oss": Case(
        note="InternVL 3.5 over GPT-OSS: attention sinks",
        processor=internvl_processor,
        model=internvl_gpt_oss,
        marker="<IMG_CONTEXT>",
    ),
    "qianfan_ocr": Case(
        note="Qianfan-OCR",
        processor=qianfan_processor,
        model=qianfan,
        marker="<image>",
    ),
    "smolvlm": Case(
        note="SmolVLM",
        processor=lambda: smolvlm_processor(hf.SmolVLMProcessor, hf.SmolVLMImageProcessor),
        model=smolvlm,
        marker="<image>",
        joint=masked_tiles,
    ),
    "idefics3": Case(
        note="Idefics3",
        processor=lambda: smolvlm_processor(hf.Idefics3Processor, hf.Idefics3ImageProcessor),
        model=idefics3,
        marker="<image>",
        joint=masked_tiles,
    ),
    "idefics2": Case(
        note="Idefics2: images of any size",
        processor=idefics2_processor,
        model=idefics2,
        marker="<image>",
        joint=masked_tiles,
    ),
    "internvl_qwen3_moe": Case(
        note="InternVL 3.5 over Qwen3 with experts",
        processor=internvl_processor,
        model=internvl_qwen3_moe,
        marker="<IMG_CONTEXT>",
    ),
}
