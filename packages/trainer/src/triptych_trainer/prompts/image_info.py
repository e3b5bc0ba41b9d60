"""The image infos that a reward gets of a prompt."""

from functools import partial
from typing import Literal

import numpy as np
from PIL import Image
from triptych_data.resize import resize

from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rewards import ImageInfo

__all__ = ["image_infos"]


def image_infos(prompt: PreparedPrompt) -> list[ImageInfo]:
    """Describe each image of a prompt by its name, annotation and sizes, in the order of the record."""
    bound = prompt.example.prompt
    notes: dict[int, str | None] = {}
    places: dict[int, tuple[int, ...]] = {}
    for place, (image, annotation) in enumerate(zip(bound.image_order, bound.annotations, strict=True)):
        notes[image] = notes.get(image) or annotation
        places[image] = (*places.get(image, ()), place)
    sizes = zip(prompt.example.images, prompt.model_sizes, prompt.image_sizes, strict=True)
    return [
        ImageInfo(
            index=k,
            name=source.name,
            annotation=notes.get(k),
            width=model_size[1],
            height=model_size[0],
            source_width=decoded[1],
            source_height=decoded[0],
            places=places.get(k, ()),
            pixels=None if prompt.pixels is None else partial(_pixels, prompt, k),
        )
        for k, (source, model_size, decoded) in enumerate(sizes)
    ]


def _pixels(prompt: PreparedPrompt, image: int, size: Literal["seen", "source"]) -> Image.Image:
    """One image of a prompt, as the model saw it or in the size of its file; a copy, which a reward may draw on."""
    assert prompt.pixels is not None
    if size == "source":
        return prompt.pixels()[image].copy()
    kept = prompt.pixels(sizes=prompt.resized)[image]  # as the run keeps it: at its final size, or as decoded
    return Image.fromarray(np.array(resize(np.asarray(kept), prompt.model_sizes[image])))
