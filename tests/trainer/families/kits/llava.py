"""LLaVA and its relatives: one projector between a tower of fixed or free size and any text backbone."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

from .case import Case, Stock
from .parts import PIXTRAL, SIGLIP, VIT, text, whole
from .tokenizer import build_tokenizer, chat_template

CLIP = {**VIT, "model_type": "clip_vision_model", "projection_dim": 16}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
SQUARE = {"size": {"height": 16, "width": 16}}
CROP = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


def image_tokenizer() -> Any:
    return build_tokenizer(named={"image_token": "<image>"})


def llava_processor() -> Any:
    return hf.LlavaProcessor(
        hf.CLIPImageProcessor(**CROP),
        image_tokenizer(),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )


def llava(tokenizer: Any) -> torch.nn.Module:
    config = hf.LlavaConfig(
        text_config=text(tokenizer, model_type="llama"), vision_config=CLIP, image_token_index=tokenizer.image_token_id
    )
    return hf.LlavaForConditionalGeneration(config)


def vipllava(tokenizer: Any) -> torch.nn.Module:
    config = hf.VipLlavaConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=CLIP,
        vision_feature_layers=[-1, -2],
        image_token_index=tokenizer.image_token_id,
    )
    return hf.VipLlavaForConditionalGeneration(config)


def pixtral_processor(merge: int = 1) -> Any:
    tokenizer = build_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    images = hf.PixtralImageProcessor(size={"longest_edge": 32}, patch_size={"height": 4, "width": 4})
    return hf.PixtralProcessor(
        images, tokenizer, patch_size=4, spatial_merge_size=merge, chat_template=chat_template("[IMG]")
    )


def pixtral_joint(parts: list[Stock]) -> Stock:
    """The processor pads the images of all prompts to the largest."""
    height = max(part["pixel_values"].shape[-2] for part in parts)
    width = max(part["pixel_values"].shape[-1] for part in parts)
    padded = [
        torch.nn.functional.pad(
            part["pixel_values"],
            (0, width - part["pixel_values"].shape[-1], 0, height - part["pixel_values"].shape[-2]),
        )
        for part in parts
    ]
    return {"pixel_values": torch.cat(padded), "image_sizes": torch.cat([part["image_sizes"] for part in parts])}


def llava_pixtral(tokenizer: Any) -> torch.nn.Module:
    config = hf.LlavaConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=PIXTRAL,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return hf.LlavaForConditionalGeneration(config)


def mistral3(tokenizer: Any) -> torch.nn.Module:
    config = hf.Mistral3Config(
        text_config=text(tokenizer, model_type="mistral", head_dim=8, sliding_window=None),
        vision_config=PIXTRAL,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return hf.Mistral3ForConditionalGeneration(config)


def llava_next_processor() -> Any:
    images = hf.LlavaNextImageProcessor(**CROP, image_grid_pinpoints=PINPOINTS)
    return hf.LlavaNextProcessor(
        images,
        image_tokenizer(),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )


def padded_tiles(parts: list[Stock]) -> Stock:
    """The processor pads the images of all prompts to the same number of tiles."""
    longest = max(part["pixel_values"].shape[1] for part in parts)
    tiles = [
        torch.nn.functional.pad(part["pixel_values"], (0, 0, 0, 0, 0, 0, 0, longest - part["pixel_values"].shape[1]))
        for part in parts
    ]
    rest = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "pixel_values"}
    return {"pixel_values": torch.cat(tiles), **rest}


def llava_next(tokenizer: Any) -> torch.nn.Module:
    config = hf.LlavaNextConfig(
        text_config=text(tokenizer, model_type="llama"),
        vision_config=CLIP,
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    return hf.LlavaNextForConditionalGeneration(config)


def llava_onevision_processor() -> Any:
    tokenizer = build_tokenizer(named={"image_token": "<image>", "video_token": "<video>"})
    images = hf.LlavaOnevisionImageProcessor(**SQUARE, image_grid_pinpoints=PINPOINTS)
    return whole(
        hf.LlavaOnevisionProcessor,
        images,
        tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat_template("<image>"),
    )


def llava_onevision(tokenizer: Any) -> torch.nn.Module:
    config = hf.LlavaOnevisionConfig(
        text_config=text(tokenizer, model_type="qwen2"),
        vision_config=SIGLIP,
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=PINPOINTS,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config)


AYA_TOKENS = (
    "<image>",
    "<|START_OF_IMG|>",
    "<|END_OF_IMG|>",
    "<|IMG_PATCH|>",
    "<|IMG_LINE_BREAK|>",
    "TILE",
    "TILE_GLOBAL",
)


def aya_processor() -> Any:
    images = hf.GotOcr2ImageProcessor(**SQUARE, crop_to_patches=True, min_patches=1, max_patches=3)
    return hf.AyaVisionProcessor(
        images,
        build_tokenizer(*AYA_TOKENS),
        patch_size=4,
        img_size=16,
        downsample_factor=2,
        chat_template=chat_template("<image>"),
    )


def aya_vision(tokenizer: Any) -> torch.nn.Module:
    config = hf.AyaVisionConfig(
        text_config=text(
            tokenizer, model_type="cohere2", layer_types=["sliding_attention", "full_attention"], sliding_window=10
        ),
        vision_config=SIGLIP,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return hf.AyaVisionForConditionalGeneration(config)


def cohere2_processor() -> Any:
    names = {"boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>", "image_token": "<|IMG_PATCH|>"}
    tokenizer = build_tokenizer(named={**names, "img_line_break_token": "<|IMG_LINE_BREAK|>"})
    images = hf.Cohere2VisionImageProcessor(**SQUARE, patch_size=2, min_patches=1, max_patches=3)
    return hf.Cohere2VisionProcessor(images, tokenizer, chat_template=chat_template("<|IMG_PATCH|>"))


def cohere2_vision(tokenizer: Any) -> torch.nn.Module:
    config = hf.Cohere2VisionConfig(
        text_config=text(
            tokenizer, model_type="cohere2", layer_types=["sliding_attention", "full_attention"], sliding_window=10
        ),
        vision_config=SIGLIP,
        image_token_id=tokenizer.image_token_id,
        alignment_intermediate_size=24,
    )
    return hf.Cohere2VisionForConditionalGeneration(config)


CASES = {
    "llava": Case(note="LLaVA 1.5, one tile", processor=llava_processor, model=llava, marker="<image>"),
    "vipllava": Case(note="ViP-LLaVA", processor=llava_processor, model=vipllava, marker="<image>"),
    "llava_pixtral": Case(
        note="Pixtral: images of any size",
        processor=pixtral_processor,
        model=llava_pixtral,
        marker="[IMG]",
        joint=pixtral_joint,
    ),
    "mistral3": Case(
        note="Mistral 3", processor=lambda: pixtral_processor(2), model=mistral3, marker="[IMG]", joint=pixtral_joint
    ),
    "llava_next": Case(
        note="LLaVA-NeXT: tiles", processor=llava_next_processor, model=llava_next, marker="<image>", joint=padded_tiles
    ),
    "llava_onevision": Case(
        note="LLaVA-OneVision: tiles for a lone image",
        processor=llava_onevision_processor,
        model=llava_onevision,
        marker="<image>",
        joint=padded_tiles,
    ),
    "aya_vision": Case(
        note="Aya Vision: tiles, sliding layers",
        processor=aya_processor,
        model=aya_vision,
        marker="<image>",
        placeholder="<|IMG_PATCH|>",
    ),
    "cohere2_vision": Case(
        note="Command A Vision: tiles, sliding layers",
        processor=cohere2_processor,
        model=cohere2_vision,
        marker="<|IMG_PATCH|>",
    ),
}
