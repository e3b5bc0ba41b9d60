"""Two-layer models of every tested family, and batches with that family's image inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import transformers as hf
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch

IMAGE, START, END = 90, 91, 92
TEXT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
QWEN_SPECIAL = {
    "image_token_id": IMAGE,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
    "video_token_id": 93,
}
MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
VIT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 3,
}


PIXTRAL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 4,
    "num_channels": 3,
    "head_dim": 8,
}


@dataclass(frozen=True)
class Case:
    """A family under test: how to build the model, and `(inputs, feature rows)` of the i-th image."""

    build: Callable[[], torch.nn.Module]
    image: Callable[[torch.Generator, int], tuple[dict[str, torch.Tensor], int]]
    alone: Callable[[dict[str, torch.Tensor], int], dict[str, torch.Tensor]] = lambda inputs, count: inputs
    """Adjusts a prompt's stacked image inputs for the stock forward (its own convention for several images)."""


def qwen3_vl() -> torch.nn.Module:
    config = hf.Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 8, "rope_parameters": MROPE},
        vision_config=_qwen3_vision(),
        tie_word_embeddings=False,
        **QWEN_SPECIAL,
    )
    return hf.Qwen3VLForConditionalGeneration(config)


def qwen3_vl_moe() -> torch.nn.Module:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
    config = hf.Qwen3VLMoeConfig(
        text_config={**TEXT, "head_dim": 8, "rope_parameters": MROPE, **experts},
        vision_config=_qwen3_vision(),
        tie_word_embeddings=False,
        **QWEN_SPECIAL,
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config)


def _qwen3_vision() -> dict[str, Any]:
    return {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }


def qwen3_5() -> torch.nn.Module:
    linear = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_conv_kernel_dim": 4,
    }
    config = hf.Qwen3_5Config(
        text_config={
            **TEXT,
            **linear,
            "num_hidden_layers": 3,
            "head_dim": 8,
            "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0},
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        },
        vision_config={k: v for k, v in _qwen3_vision().items() if k != "deepstack_visual_indexes"},
        tie_word_embeddings=False,
        **QWEN_SPECIAL,
    )
    return hf.Qwen3_5ForConditionalGeneration(config)


def glm4v() -> torch.nn.Module:
    config = hf.Glm4vConfig(
        text_config={**TEXT, "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}},
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "image_size": 16,
        },
        image_token_id=IMAGE,
        image_start_token_id=START,
        image_end_token_id=END,
        video_token_id=93,
        video_start_token_id=94,
        video_end_token_id=95,
    )
    return hf.Glm4vForConditionalGeneration(config)


def internvl() -> torch.nn.Module:
    config = hf.InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2"},
        vision_config={**VIT, "image_size": [16, 16], "patch_size": [4, 4]},
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    return hf.InternVLForConditionalGeneration(config)


def llava() -> torch.nn.Module:
    config = hf.LlavaConfig(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**VIT, "model_type": "clip_vision_model", "projection_dim": 16},
        image_token_index=IMAGE,
    )
    return hf.LlavaForConditionalGeneration(config)


def llava_pixtral() -> torch.nn.Module:
    config = hf.LlavaConfig(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**PIXTRAL, "model_type": "pixtral"},
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_token_index=IMAGE,
    )
    return hf.LlavaForConditionalGeneration(config)


def mistral3() -> torch.nn.Module:
    config = hf.Mistral3Config(
        text_config={**TEXT, "model_type": "mistral", "head_dim": 8, "sliding_window": None},
        vision_config={**PIXTRAL, "model_type": "pixtral"},
        image_token_index=IMAGE,
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return hf.Mistral3ForConditionalGeneration(config)


def llava_onevision() -> torch.nn.Module:
    config = hf.LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2"},
        vision_config={**VIT, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_index=IMAGE,
        video_token_index=93,
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )
    return hf.LlavaOnevisionForConditionalGeneration(config)


def gemma3() -> torch.nn.Module:
    config = hf.Gemma3Config(
        text_config={
            **TEXT,
            "head_dim": 8,
            "sliding_window": 10,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config={**VIT, "model_type": "siglip_vision_model", "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=START,
        eoi_token_index=END,
        image_token_index=IMAGE,
    )
    return hf.Gemma3ForConditionalGeneration(config)


def smolvlm() -> torch.nn.Module:
    config = hf.SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama"}, vision_config=VIT, image_token_id=IMAGE, scale_factor=2
    )
    return hf.SmolVLMForConditionalGeneration(config)


def qwen_image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
    height, width = ((4, 4), (2, 6), (6, 2), (4, 8), (2, 2))[i % 5]
    pixels = torch.randn(height * width, 3 * 2 * 2 * 2, generator=generator)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, height, width]])}, height * width // 4


def one_tile(rows: int) -> Callable[[torch.Generator, int], tuple[dict[str, torch.Tensor], int]]:
    def image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
        return {"pixel_values": torch.randn(1, 3, 16, 16, generator=generator)}, rows

    return image


def pixtral_image(merge: int) -> Callable[[torch.Generator, int], tuple[dict[str, torch.Tensor], int]]:
    """Images of different sizes: 4 pixels a patch, `merge` x `merge` patches a row."""

    def image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
        height, width = ((16, 8), (8, 24), (16, 16))[i % 3]
        pixels = torch.randn(1, 3, height, width, generator=generator)
        rows = (height // (4 * merge)) * (width // (4 * merge))
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[height, width]])}, rows

    return image


def pixtral_stock(images: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The processor pads the images of a prompt to the largest."""
    sizes = torch.cat([image["image_sizes"] for image in images])
    height, width = sizes.amax(0).tolist()
    padded = torch.zeros(len(images), 3, height, width)
    for i, image in enumerate(images):
        padded[i, :, : sizes[i, 0], : sizes[i, 1]] = image["pixel_values"][0]
    return {"pixel_values": padded, "image_sizes": sizes}


def internvl_image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
    tiles = 1 + i % 3
    return {"pixel_values": torch.randn(tiles, 3, 16, 16, generator=generator)}, 4 * tiles


def smolvlm_image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
    tiles = 1 + i % 3
    return {"pixel_values": torch.randn(1, tiles, 3, 16, 16, generator=generator)}, 4 * tiles


def onevision_image(generator: torch.Generator, i: int) -> tuple[dict[str, torch.Tensor], int]:
    """Image of a several-image prompt: one tile of 4 x 4 patches and the newline row."""
    pixels = torch.randn(1, 1, 3, 16, 16, generator=generator)
    sizes = torch.tensor([[16 + 4 * (i % 2), 16]])
    return {"pixel_values": pixels, "image_sizes": sizes, "single": torch.tensor([False])}, 17


def onevision_lone_image(generator: torch.Generator) -> tuple[dict[str, torch.Tensor], int]:
    """Image alone in its prompt, 32 x 32 pixels: base tile and four tiles of 4 x 4 patches, a newline per row."""
    pixels = torch.randn(1, 5, 3, 16, 16, generator=generator)
    rows = 16 + 8 * 8 + 8
    return {"pixel_values": pixels, "image_sizes": torch.tensor([[32, 32]]), "single": torch.tensor([True])}, rows


def onevision_stock(inputs: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    alone = bool(inputs.pop("single")[0])
    return {**inputs, "batch_num_images": torch.tensor([1] if alone else [max(count, 2)])}


CASES: dict[str, Case] = {
    "qwen3_vl": Case(build=qwen3_vl, image=qwen_image),
    "qwen3_vl_moe": Case(build=qwen3_vl_moe, image=qwen_image),
    "qwen3_5": Case(build=qwen3_5, image=qwen_image),
    "glm4v": Case(build=glm4v, image=qwen_image),
    "internvl": Case(build=internvl, image=internvl_image),
    "llava": Case(build=llava, image=one_tile(16)),
    "llava_pixtral": Case(build=llava_pixtral, image=pixtral_image(1)),
    "mistral3": Case(build=mistral3, image=pixtral_image(2)),
    "llava_onevision": Case(build=llava_onevision, image=onevision_image, alone=onevision_stock),
    "gemma3": Case(build=gemma3, image=one_tile(4)),
    "smolvlm": Case(build=smolvlm, image=smolvlm_image),
}


def build_model(name: str, lab: ModuleType) -> torch.nn.Module:
    torch.manual_seed(0)
    return lab.strengthen(CASES[name].build())


def build_batch(
    name: str, *, images: tuple[int, ...], lengths: tuple[tuple[int, ...], ...], seed: int = 0
) -> GroupBatch:
    """Prompts with the given numbers of images and completions of the given lengths, random ids and pixels."""
    case, generator = CASES[name], torch.Generator().manual_seed(seed)

    def text(length: int) -> list[int]:
        return torch.randint(1, 89, (length,), generator=generator).tolist()

    prompts, spans, inputs = [], [], []
    for p, count in enumerate(images):
        ids, row = text(4 + p), []
        for k in range(count):
            lone = name == "llava_onevision" and count == 1
            image, rows = onevision_lone_image(generator) if lone else case.image(generator, len(inputs))
            inputs.append(image)
            row.append(ImageSpan(start=len(ids), length=rows + 2, image=k, runs=((len(ids) + 1, rows),)))
            ids += [START, *[IMAGE] * rows, END, *text(1 + k)]
        prompts.append(ids)
        spans.append(row)
    completions = [[text(n) for n in group] for group in lengths]
    return GroupBatch.build(prompts, spans=spans, images=inputs, completions=completions)


def stock_image_inputs(name: str, batch: GroupBatch, prompt: int) -> dict[str, torch.Tensor]:
    """What the model's own processor would pass for this prompt's images."""
    images = batch.images_of(prompt)
    if not images:
        return {}
    if name == "smolvlm":
        tiles = torch.cat([image["pixel_values"] for image in images], dim=1)
        return {"pixel_values": tiles}
    if name in ("llava_pixtral", "mistral3"):
        return pixtral_stock(images)
    stacked = {key: torch.cat([image[key] for image in images]) for key in images[0]}
    return CASES[name].alone(stacked, len(images))
