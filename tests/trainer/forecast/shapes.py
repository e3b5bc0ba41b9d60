"""Model shapes and batches whose step takes hundreds of megabytes and a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from triptych_parser import ImageSpan
from triptych_trainer.forward import CompletionImage, GroupBatch

IMAGE, START, END = 90, 91, 92
SPECIAL = {"image_token_id": IMAGE, "vision_start_token_id": START, "vision_end_token_id": END, "video_token_id": 93}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model config, and a batch for it."""

    config: Callable[[], Any]
    image: Callable[[], tuple[dict[str, torch.Tensor], int]]
    """Inputs of one image and its number of feature rows."""
    images: tuple[int, ...]
    completions: tuple[int, ...]
    """Group size of each prompt."""
    completion_tokens: int


def text(**sizes: Any) -> dict[str, Any]:
    return {"max_position_embeddings": 8192, "pad_token_id": 0, **sizes}


def qwen(*, layers: int, hidden: int, vocabulary: int, depth: int, vision_hidden: int) -> Any:
    mrope = {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0}
    return hf.Qwen2_5_VLConfig(
        text_config=text(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 128,
            rope_parameters=mrope,
        ),
        vision_config={
            "depth": depth,
            "hidden_size": vision_hidden,
            "intermediate_size": 3 * vision_hidden,
            "num_heads": vision_hidden // 64,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=False,
        **SPECIAL,
    )


def qwen_image(side: int) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    def image() -> tuple[dict[str, torch.Tensor], int]:
        return {"pixel_values": torch.rand(side * side, 1176), "image_grid_thw": torch.tensor([[1, side, side]])}, (
            side * side // 4
        )

    return image


def gemma() -> Any:
    return hf.Gemma3Config(
        text_config=text(
            vocab_size=4096,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            sliding_window=256,
            layer_types=["sliding_attention"] * 2 + ["full_attention"] + ["sliding_attention"] * 2 + ["full_attention"],
        ),
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 5,
            "num_attention_heads": 3,
            "image_size": 448,
            "patch_size": 14,
            "vision_use_head": False,
        },
        mm_tokens_per_image=256,
        boi_token_index=START,
        eoi_token_index=END,
        image_token_index=IMAGE,
    )


def tile_image(side: int, rows: int) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    return lambda: ({"pixel_values": torch.rand(1, 3, side, side)}, rows)


def internvl() -> Any:
    return hf.InternVLConfig(
        text_config=text(
            model_type="qwen2",
            vocab_size=16384,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
        ),
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "image_size": [224, 224],
            "patch_size": [14, 14],
            "num_channels": 3,
        },
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )


SHAPES = {
    "qwen2_5_vl, wide": Shape(
        config=lambda: qwen(layers=3, hidden=256, vocabulary=32768, depth=3, vision_hidden=128),
        image=qwen_image(32),
        images=(2, 1),
        completions=(4, 4),
        completion_tokens=64,
    ),
    "qwen2_5_vl, deep": Shape(
        config=lambda: qwen(layers=10, hidden=256, vocabulary=4096, depth=8, vision_hidden=128),
        image=qwen_image(32),
        images=(3,),
        completions=(6,),
        completion_tokens=48,
    ),
    "gemma3": Shape(config=gemma, image=tile_image(448, 256), images=(2,), completions=(6,), completion_tokens=48),
    "internvl": Shape(
        config=internvl, image=tile_image(224, 64), images=(3, 0, 1), completions=(4, 3, 4), completion_tokens=64
    ),
}


def shape_batch(shape: Shape, *, turns: int = 0) -> GroupBatch:
    """Prompts of text and images, and completions of one length; in each arrives an image of its own after each turn.

    Every message of a completion has a share of its tokens.
    """
    prompts, spans, inputs = [], [], []
    for count in shape.images:
        ids, row = [5] * 40, []
        for k in range(count):
            image, rows = shape.image()
            inputs.append(image)
            row.append(ImageSpan(start=len(ids), length=rows + 2, image=k, runs=((len(ids) + 1, rows),)))
            ids += [START, *[IMAGE] * rows, END, 6, 7]
        prompts.append(ids)
        spans.append(row)
    indices = [[sum(shape.images[:p]) + k for k in range(count)] for p, count in enumerate(shape.images)]
    completions, trained, arrived = [], [], []
    said = shape.completion_tokens // (turns + 1)
    for size in shape.completions:
        group, counted, places = [], [], []
        for _ in range(size):
            ids, marks, row = [8] * said, [True] * said, []
            for _ in range(turns):
                image, rows = shape.image()
                span = ImageSpan(start=len(ids), length=rows + 2, image=len(row), runs=((len(ids) + 1, rows),))
                row.append(CompletionImage(image=len(inputs), span=span, name="image"))
                inputs.append(image)
                ids += [START, *[IMAGE] * rows, END, *[8] * said]
                marks += [*[False] * (rows + 2), *[True] * said]
            group, counted, places = [*group, ids], [*counted, marks], [*places, row]
        completions, trained, arrived = [*completions, group], [*trained, counted], [*arrived, places]
    return GroupBatch.build(
        prompts,
        completions=completions,
        spans=spans,
        image_indices=indices,
        images=inputs,
        trained=trained,
        completion_images=arrived,
        image_keys=[str(k) for k in range(len(inputs))] if turns else (),
    )
