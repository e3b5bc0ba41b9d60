"""Two-layer models of the real architectures, group batches, and the stock transformers forward as oracle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch
from triptych_trainer.models.unwrap import unwrap

VOCABULARY = 96
IMAGE, START, END = 90, 91, 92
PAD = 0
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
SPECIAL = {"image_token_id": IMAGE, "vision_start_token_id": START, "vision_end_token_id": END, "video_token_id": 93}


def strengthen(model: torch.nn.Module) -> torch.nn.Module:
    """Scale the weights up, so that a token in the wrong place moves the logits by far more than rounding does."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(5.0)
    return model


def qwen2_5_vl() -> torch.nn.Module:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 8,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=False,
        **SPECIAL,
    )
    return strengthen(Qwen2_5_VLForConditionalGeneration(config))


def qwen2_vl() -> torch.nn.Module:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        tie_word_embeddings=False,
        **SPECIAL,
    )
    return strengthen(Qwen2VLForConditionalGeneration(config))


def qwen_image(generator: torch.Generator, *, height: int, width: int) -> dict[str, torch.Tensor]:
    """One image of `height` x `width` patches of 2x2x2 pixels and 3 channels."""
    pixels = torch.randn(height * width, 3 * 2 * 2 * 2, generator=generator)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, height, width]])}


QWEN_GRIDS = ((4, 4), (2, 6), (6, 2), (4, 8), (2, 2))


@dataclass(frozen=True)
class Recipe:
    """Shape of a batch: images per prompt, completion lengths per prompt."""

    images: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]


MIXED = Recipe(images=(2, 0, 1, 5), completions=((5, 3, 7), (4, 4, 1), (6, 2, 9), (3, 8, 2)))


def qwen_batch(recipe: Recipe = MIXED, *, seed: int = 0) -> GroupBatch:
    """Prompts `text (start pads end text)*` with images of different grids and random completions."""
    generator = torch.Generator().manual_seed(seed)

    def text(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(1, 89, (length,), generator=generator).tolist()

    prompts, spans, images = [], [], []
    for count in recipe.images:
        ids, row = text(3, 9), []
        for k in range(count):
            height, width = QWEN_GRIDS[(len(images)) % len(QWEN_GRIDS)]
            images.append(qwen_image(generator, height=height, width=width))
            pads = height * width // 4
            row.append(ImageSpan(start=len(ids), length=pads + 2, image=k, runs=((len(ids) + 1, pads),)))
            ids += [START, *[IMAGE] * pads, END, *text(1, 5)]
        prompts.append(ids)
        spans.append(row)
    completions = [
        [torch.randint(1, 89, (n,), generator=generator).tolist() for n in lengths] for lengths in recipe.completions
    ]
    return GroupBatch.build(prompts, spans=spans, images=images, completions=completions)


def qwen_inputs(batch: GroupBatch, prompt: int) -> dict[str, torch.Tensor]:
    """The image inputs of one prompt as the processor returns them."""
    images = batch.images_of(prompt)
    return {name: torch.cat([image[name] for image in images]) for name in images[0]} if images else {}


def stock_logits(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    prompt: int,
    ids: list[int],
    inputs_of: Callable[[GroupBatch, int], dict[str, torch.Tensor]],
) -> torch.Tensor:
    """Logits `[T, V]` of one row by the model's own forward."""
    accepted = inspect.signature(type(unwrap(model)).forward).parameters
    types = torch.zeros(1, len(ids), dtype=torch.long)
    for start, length in (run for span in batch.spans[prompt] for run in span.runs):
        types[0, start : start + length] = 1
    extras = {name: types for name in ("mm_token_type_ids", "token_type_ids") if name in accepted}
    row = torch.tensor([ids])
    return model(input_ids=row, attention_mask=torch.ones_like(row), **inputs_of(batch, prompt), **extras).logits[0]


@torch.no_grad()
def stock_next_token(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    prompt: int,
    ids: list[int],
    inputs_of: Callable[[GroupBatch, int], dict[str, torch.Tensor]],
    banned: tuple[int, ...],
) -> int:
    logits_V = stock_logits(model, batch, prompt=prompt, ids=ids, inputs_of=inputs_of)[-1]
    logits_V[list(banned)] = -torch.inf
    return int(logits_V.argmax())


def stock_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    temperature: float = 1.0,
    inputs_of: Callable[[GroupBatch, int], dict[str, torch.Tensor]] = qwen_inputs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row alone through the model's stock forward: raw pixels, own positions and merge, nothing shared."""
    width = batch.max_completion_tokens
    logps, entropies = [], []
    for p, group in enumerate(batch.completions):
        prompt = list(batch.prompts[p])
        for completion in group:
            logits = stock_logits(model, batch, prompt=p, ids=[*prompt, *completion], inputs_of=inputs_of)
            z = (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)
            row = z.gather(-1, torch.tensor(completion)[:, None])[:, 0]
            logps.append(torch.nn.functional.pad(row, (0, width - len(completion))))
            entropies.append(torch.nn.functional.pad(-(z.exp() * z).sum(-1), (0, width - len(completion))))
    return torch.stack(logps), torch.stack(entropies)


def weighted_loss(logps: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
    """A loss in which every token has its own weight, so that swapped rows or columns cannot cancel."""
    weights = torch.linspace(-1.0, 2.0, logps.numel()).view_as(logps)
    return (weights * logps).sum() + (weights.flip(0) * entropies).sum() * 0.1


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return grads


def assert_same_gradients(
    got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, tolerance: float
) -> float:
    """Hold every parameter's gradient, missing counted as zero, within `tolerance` of its norm; the largest error.

    Norms below a hundredth of the largest count as that: some gradients (key biases) are zero but for rounding.
    """
    scale = max(float(g.norm()) for g in expected.values())
    largest = 0.0
    for name in expected.keys() | got.keys():
        reference = expected.get(name, torch.zeros(()))
        value = got.get(name, torch.zeros(()))
        norm = float(reference.norm())
        error = float((value - reference).norm()) / max(norm, 1e-2 * scale)
        assert error <= tolerance, f"{name}: gradient error {error:.2e} of norm {norm:.2e}, allowed {tolerance:.2e}"
        largest = max(largest, error)
    return largest
