"""One prompt made ready once: images decoded, preprocessed and counted, text tokenized with every image in its span."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from PIL import Image
from triptych_data import DataError, Example, ImageLoader
from triptych_data.budget import Size
from triptych_data.describe import count_images, describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_data.resize import resize
from triptych_parser import ImageSpan

from triptych_trainer.models.families import Family, ImageInputs
from triptych_trainer.models.image_processor import image_processor_of

__all__ = ["PreparedPrompt", "PromptPreparer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedPrompt:
    """A prompt as the model gets it, shared by all of its completions."""

    example: Example
    ids: list[int]
    """Token ids with every image expanded to its placeholders."""
    spans: tuple[ImageSpan, ...]
    """One span per marker, in order; ``span.image`` counts the images of this prompt from 0."""
    image_inputs: tuple[ImageInputs, ...]
    """The image processor's output for each image of this prompt, each once."""
    image_sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels of each image as decoded, before the model's own resize."""
    fed_sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels of each image as the vision tower sees it."""
    text: str | None = None
    """A prompt of plain text, which is tokenized as it stands; None for a conversation."""


class PromptPreparer:
    """Prepares prompts and keeps the last ones, so that no pass of a step prepares a prompt twice."""

    def __init__(
        self,
        processor: Any,
        *,
        loader: ImageLoader,
        family: Family | None = None,
        settings: PromptSettings | None = None,
        keep: int = 64,
    ) -> None:
        """Prepare with ``processor``'s tokenizer, chat template and image processor; keep the ``keep`` last prompts.

        ``family`` is the adapter of the model that the prompts are for: some process an image differently among many.
        ``settings`` are those of the run; a row's own pixel limits count besides them.
        """
        self.processor = processor
        self.loader = loader
        self.family = family or Family()
        self.settings = settings or PromptSettings()
        self.keep = keep
        self.preprocessed = 0
        """Images that went through the image processor so far."""
        self._kept: OrderedDict[str, PreparedPrompt] = OrderedDict()

    def prefetch(self, example: Example) -> None:
        """Start decoding an example's images on the loader's threads."""
        if example.images and example.key not in self._kept:
            self.loader.prefetch([example])

    def __call__(self, example: Example) -> PreparedPrompt:
        """Return the prepared prompt of ``example``.

        Raises:
            DataError: an image cannot be decoded, or the settings refuse the prompt.
        """
        key = example.key
        if key not in self._kept or not is_prompt_of(self._kept[key], example):
            self._kept[key] = self._prepare(example)
        self._kept.move_to_end(key)
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return self._kept[key]

    @cached_property
    def model(self) -> ModelTokens:
        """What counts the prompts."""
        return ModelTokens.of(self.processor)

    def plain(self, example: Example, text: str) -> PreparedPrompt:
        """Return a prompt of plain text without images, tokenized as it stands: special tokens in it are special."""
        encoded = self.processor(text=[text])["input_ids"][0]
        return PreparedPrompt(
            example=example, ids=list(encoded), spans=(), image_inputs=(), image_sizes=(), fed_sizes=(), text=text
        )

    def _prepare(self, example: Example) -> PreparedPrompt:
        if example.images and not self.family.takes_images:
            count = len(example.images)
            raise DataError(
                f"the row holds {count} image{'s' * (count != 1)}, but the model takes none",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy="train a vision-language model, or leave the images out of the data",
            )
        images = self.loader.get(example) if example.images else []
        sizes = tuple((image.height, image.width) for image in images)
        counted = describe(example, model=self.model, settings=self.settings, sizes=sizes).accepted()
        inputs: tuple[ImageInputs, ...] = ()
        if images:
            images, options = _as_processed(images, counted.images.resized)
            inputs = self.family.preprocess(partial(image_processor_of(self.processor), **options), images)
        self.preprocessed += len(images)
        return PreparedPrompt(
            example=example,
            ids=counted.ids,
            spans=counted.spans,
            image_inputs=inputs,
            image_sizes=sizes,
            fed_sizes=tuple(self._fed_size(entry, size) for entry, size in zip(inputs, sizes, strict=True)),
        )

    def pictures(self, prompt: PreparedPrompt) -> tuple[list[Image.Image], dict[str, Any]]:
        """The decoded images of a prompt as its processor takes them, and the options of that call."""
        if not prompt.image_sizes:
            return [], {}
        counted = count_images(prompt.example, model=self.model, settings=self.settings, sizes=prompt.image_sizes)
        return _as_processed(self.loader.get(prompt.example), counted.resized)

    def _fed_size(self, inputs: ImageInputs, decoded: tuple[int, int]) -> tuple[int, int]:
        """Pixels after the model's resize: from the patch grid, the single frame, or as decoded where tiled."""
        if "image_grid_thw" in inputs:
            _, rows, columns = inputs["image_grid_thw"][0].tolist()
            patch = self.processor.image_processor.patch_size
            return rows * patch, columns * patch
        frames = inputs["pixel_values"]
        if frames.ndim == 4 and frames.shape[0] == 1:
            return frames.shape[-2], frames.shape[-1]
        return decoded


def _as_processed(
    images: Sequence[Image.Image], resized: Sequence[Size] | None
) -> tuple[list[Image.Image], dict[str, Any]]:
    """The images at the sizes that the run gives them, and what to tell the image processor of it."""
    if resized is None:
        return list(images), {}
    return [_resized(image, size) for image, size in zip(images, resized, strict=True)], {"do_resize": False}


def _resized(image: Image.Image, size: Size) -> Image.Image:
    return image if (image.height, image.width) == size else Image.fromarray(resize(np.asarray(image), size))


def is_prompt_of(prepared: PreparedPrompt, example: Example) -> bool:
    """Whether a prompt that was kept is this example's own; examples made by hand can share a key."""
    kept = prepared.example
    return kept is example or (kept.prompt == example.prompt and kept.images == example.images)
