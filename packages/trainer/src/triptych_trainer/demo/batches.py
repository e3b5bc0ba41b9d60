"""Turn demo samples into the tensors that the plain transformers model takes."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from triptych_data import Example
from triptych_parser import bind, parse, tokenize

from triptych_trainer.prompts.prepare import PreparedPrompt

from .pictures import PICTURE_SIDE_PIXELS
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


def prepared_prompts(samples: Sequence[Sample], *, processor: Any, placement: Placement) -> dict[int, PreparedPrompt]:
    """Return the prompts as the step takes them, by the position of their sample."""
    tensors = picture_tensors(samples, processor=processor)
    grids_I3, pixels = tensors["image_grid_thw"], tensors["pixel_values"]
    pictures = iter(zip(pixels.split(grids_I3.prod(dim=1).tolist()), grids_I3.split(1), strict=True))
    size = (PICTURE_SIDE_PIXELS, PICTURE_SIDE_PIXELS)
    prompts = {}
    for row, sample in enumerate(samples):
        sizes = (size,) * len(sample.pictures)
        bound = bind(parse(sample.prompt(placement=placement)), len(sizes))
        tokenized = tokenize(bound, processor, image_sizes=sizes)
        prompts[row] = PreparedPrompt(
            example=Example(
                id=sample.id, prompt=bound, images=(), answer=sample.answer, extras={}, source=sample.id, row=row
            ),
            ids=list(tokenized.ids),
            spans=tuple(tokenized.spans),
            image_inputs=tuple(
                {"pixel_values": rows, "image_grid_thw": grid} for rows, grid in islice(pictures, len(sizes))
            ),
            image_sizes=sizes,
            model_sizes=sizes,
        )
    return prompts


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
