"""A family under test: a tiny model of the real architecture, the real processor, and what the two give for prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch, encode_images
from triptych_trainer.models.families import family_of
from triptych_trainer.models.image_processor import image_processor_of

SIZES = ((40, 30), (16, 16), (33, 70), (24, 52), (64, 20))
"""Heights and widths of the pictures, in pixels."""
Stock = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to build one family; everything else follows from the processor's own output."""

    processor: Callable[[], Any]
    """The real processor class over the real image processor and a tokenizer built in code."""
    model: Callable[[Any], torch.nn.Module]
    """A two-layer model of the real architecture, given the tokenizer."""
    marker: str
    """What stands for an image in the text that the processor takes."""
    placeholder: str = ""
    """The token that takes feature rows, where it is not the processor's `image_token`."""
    after_prompt: Mapping[str, int] = field(default_factory=dict)
    """Values of type ids behind the prompt, where that is not 0."""
    joint: Callable[[list[Stock]], Stock] | None = None
    """Joins the image inputs of several prompts, where they are not simply concatenated."""
    text_only: bool = True
    """Whether the processor takes prompts without an image."""
    note: str = ""
    """What the case stands for, in the table of families."""
    needs: str | None = None
    """A package that the model needs and the project does not install; without it the family's tests are skipped."""
    spared: str | None = None
    """Part of the names of parameters that are not scaled up: recurrent layers, whose rounding would grow as well."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A batch as our passes take it, and each prompt's inputs as the processor returned them."""

    batch: GroupBatch
    stock: tuple[Stock, ...]
    after_prompt: Mapping[str, int]

    def select(self, prompts: Sequence[int]) -> Prompts:
        """Some of the prompts, with their images."""
        batch, _ = self.batch.select(prompts)
        return Prompts(batch=batch, stock=tuple(self.stock[p] for p in prompts), after_prompt=self.after_prompt)


def build_prompts(
    case: Case,
    model: torch.nn.Module,
    processor: Any,
    *,
    images: Sequence[int],
    lengths: Sequence[Sequence[int]],
    seed: int = 0,
) -> Prompts:
    """Prompts with the given numbers of images through the real processor, and random completions of given lengths."""
    noise = np.random.default_rng(seed)
    family, placeholder = family_of(model), placeholder_id(case, processor)
    prompts, spans, inputs, stock = [], [], [], []
    for p, count in enumerate(images):
        shown = [picture(noise, len(inputs) + k) for k in range(count)]
        text = "abcd"[p % 4] * (2 + p) + "".join(f"{case.marker}{'xyz'[k % 3] * (1 + k)}" for k in range(count)) + "?\n"
        outputs = call_processor(case, processor, text, shown)
        ids = outputs["input_ids"][0].tolist()
        own = family.preprocess(image_processor_of(processor), shown)
        counts = counts_of(model, own)
        prompts.append(ids)
        spans.append(find_spans(ids, placeholder=placeholder, counts=counts))
        inputs.extend(own)
        stock.append(outputs)
    completions = [[noise.integers(1, 250, length).tolist() for length in group] for group in lengths]
    batch = GroupBatch.build(prompts, spans=spans, images=inputs, completions=completions)
    return Prompts(batch=batch, stock=tuple(stock), after_prompt=case.after_prompt)


def pictures(count: int, *, seed: int = 0) -> list[Image.Image]:
    """So many pictures of noise and of different sizes."""
    noise = np.random.default_rng(seed)
    return [picture(noise, number) for number in range(count)]


def picture(noise: np.random.Generator, number: int) -> Image.Image:
    """A picture of noise; sizes repeat after five."""
    return Image.fromarray(noise.integers(0, 255, (*SIZES[number % len(SIZES)], 3), dtype=np.uint8))


def call_processor(case: Case, processor: Any, text: str, pictures: Sequence[Image.Image]) -> Stock:
    """What the processor returns for one prompt; without images, what its tokenizer returns where it takes no such."""
    if not pictures and not case.text_only:
        outputs = processor.tokenizer([text], return_tensors="pt")
        outputs |= {name: torch.zeros_like(outputs["input_ids"]) for name in case.after_prompt}
    else:
        options = {"images": [list(pictures)]} if pictures else {}
        outputs = processor(text=[text], return_tensors="pt", **options)
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor) and name != "labels"}


def placeholder_id(case: Case, processor: Any) -> int:
    """The id that takes feature rows."""
    return processor.tokenizer.convert_tokens_to_ids(case.placeholder or processor.image_token)


@torch.no_grad()
def counts_of(model: torch.nn.Module, images: Sequence[Any]) -> tuple[int, ...]:
    """Feature rows of each image, by the tower."""
    features = encode_images(model, images)
    return () if features is None else features.counts


def find_spans(ids: Sequence[int], *, placeholder: int, counts: Sequence[int]) -> list[ImageSpan]:
    """Give the placeholders to the images in order: as many to each as it has feature rows."""
    places = [place for place, token in enumerate(ids) if token == placeholder]
    assert len(places) == sum(counts), f"{len(places)} placeholders for {counts} feature rows"
    spans, first = [], 0
    for image, count in enumerate(counts):
        mine = places[first : first + count]
        first += count
        runs: list[tuple[int, int]] = []
        for place in mine:
            if runs and sum(runs[-1]) == place:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((place, 1))
        spans.append(ImageSpan(start=mine[0], length=mine[-1] + 1 - mine[0], image=image, runs=tuple(runs)))
    return spans


def build_model(case: Case, processor: Any) -> torch.nn.Module:
    """Build the model of a case, with weights that make faults visible (`spread`)."""
    torch.manual_seed(0)
    return spread(case.model(processor.tokenizer), case.spared)


def spread(model: torch.nn.Module, spared: str | None = None) -> torch.nn.Module:
    """Scale the weights of a new model up, and give parameters that start at one value throughout others that differ.

    Otherwise a token in the wrong place would move the logits by no more than rounding does.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if parameter.dim() >= 2 and (spared is None or spared not in name):
                parameter.mul_(5.0)
    return model
