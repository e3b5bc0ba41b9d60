"""Turn demo samples into the tensors that the plain transformers model takes."""

from collections.abc import Sequence
from typing import Any

import torch

from .task import MARKER, Placement, Sample
from .tokenizer import IMAGE_PAD, VISION_END, VISION_START

TOKENS_PER_PICTURE = 4
NOT_SCORED = -100


def prompt_texts(
    samples: Sequence[Sample], *, processor: Any, placement: Placement, words_for_pictures: bool = False
) -> list[str]:
    """Render the samples through the chat template, with image tokens or the colours' names at the markers."""
    texts = []
    for sample in samples:
        pieces = sample.prompt(placement=placement).split(MARKER)
        content = pieces[0]
        for colour, piece in zip(sample.colours, pieces[1:], strict=True):
            shown = colour if words_for_pictures else IMAGE_PAD * TOKENS_PER_PICTURE
            content += f"{VISION_START}{shown}{VISION_END}{piece}"
        texts.append(
            processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )
    return texts


def prompt_batch(samples: Sequence[Sample], *, processor: Any, placement: Placement) -> dict[str, torch.Tensor]:
    """Return the prompts padded on the left, ready for `generate`."""
    texts = prompt_texts(samples, processor=processor, placement=placement)
    ids_BT = processor.tokenizer(texts).input_ids
    return _padded(ids_BT, processor=processor, side="left") | picture_tensors(samples, processor=processor)


def supervised_batch(
    samples: Sequence[Sample],
    *,
    completions: Sequence[str],
    processor: Any,
    placement: Placement,
    words_for_pictures: bool = False,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return model inputs padded on the right and labels [B, T] that score the completions and nothing else."""
    texts = prompt_texts(samples, processor=processor, placement=placement, words_for_pictures=words_for_pictures)
    prompts = processor.tokenizer(texts).input_ids
    ends = [text + processor.tokenizer.eos_token for text in completions]
    tails = processor.tokenizer(ends).input_ids
    rows = [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)]
    inputs = _padded(rows, processor=processor, side="right")
    labels_BT = torch.full_like(inputs["input_ids"], NOT_SCORED)
    for row, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
        labels_BT[row, len(prompt) : len(prompt) + len(tail)] = torch.tensor(tail)
    if words_for_pictures:
        del inputs["mm_token_type_ids"]
        return inputs, labels_BT
    return inputs | picture_tensors(samples, processor=processor), labels_BT


def picture_tensors(samples: Sequence[Sample], *, processor: Any) -> dict[str, torch.Tensor]:
    """Draw and preprocess all pictures of the samples, in order: pixel_values and image_grid_thw."""
    images = [image for sample in samples for image in sample.images()]
    return dict(processor.image_processor(images, return_tensors="pt"))


def _padded(rows: Sequence[list[int]], *, processor: Any, side: str) -> dict[str, torch.Tensor]:
    batch = processor.tokenizer.pad({"input_ids": list(rows)}, padding_side=side, return_tensors="pt")
    image_token = processor.tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    mm_token_type_ids_BT = (batch["input_ids"] == image_token).int()
    return {**batch, "mm_token_type_ids": mm_token_type_ids_BT}
