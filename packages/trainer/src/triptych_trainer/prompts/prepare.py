"""One prompt made ready once: images decoded, preprocessed and counted, text tokenized with every image in its span."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image
from triptych_data import Budget, Example, ImageLoader, VisionSpec
from triptych_data.resize import resize
from triptych_parser import ImageSpan, Refusal, TokenizedPrompt, tokenize

from triptych_trainer.models.families import Family, ImageInputs

Size = tuple[int, int]  # (height, width) in pixels

__all__ = ["PreparedPrompt", "PromptPreparer", "PromptTooLongError", "check_length", "planned_sizes"]


class PromptTooLongError(Refusal, ValueError):
    """A prompt needs more tokens than the run allows; its text names the row and both numbers."""


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


class PromptPreparer:
    """Prepares prompts and keeps the last ones, so that no pass of a step prepares a prompt twice."""

    def __init__(
        self,
        processor: Any,
        *,
        loader: ImageLoader,
        family: Family | None = None,
        budget: Budget | None = None,
        keep: int = 64,
        max_prompt_tokens: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        chat_template_images: Literal["exact", "inline", "template"] = "exact",
    ) -> None:
        """Prepare with ``processor``'s tokenizer, chat template and image processor; keep the ``keep`` last prompts.

        ``family`` is the adapter of the model that the prompts are for: some process an image differently among many.
        ``chat_template_images`` is what to do with a chat template that moves images (as for ``tokenize``).
        ``budget`` limits the images of a prompt besides the processor's own rule; a row's own limits count as well.
        """
        self.processor = processor
        self.loader = loader
        self.family = family or Family()
        self.budget = budget or Budget()
        self._vision: VisionSpec | None = None
        self.keep = keep
        self.max_prompt_tokens = max_prompt_tokens
        self.chat_template_kwargs = chat_template_kwargs or {}
        self.chat_template_images = chat_template_images
        self.preprocessed = 0
        """Images that went through the image processor so far."""
        self._kept: OrderedDict[str, PreparedPrompt] = OrderedDict()

    def prefetch(self, example: Example) -> None:
        """Start decoding an example's images on the loader's threads."""
        if example.images and self._key(example) not in self._kept:
            self.loader.prefetch([example])

    def __call__(self, example: Example) -> PreparedPrompt:
        """Return the prepared prompt of ``example``.

        Raises:
            PromptTooLongError: the prompt exceeds ``max_prompt_tokens``.
        """
        key = self._key(example)
        if key not in self._kept:
            self._kept[key] = self._prepare(example)
        self._kept.move_to_end(key)
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return self._kept[key]

    @staticmethod
    def _key(example: Example) -> str:
        return f"{example.source}\n{example.id}"

    def _prepare(self, example: Example) -> PreparedPrompt:
        images = self.loader.get(example) if example.images else []
        sizes = tuple((image.height, image.width) for image in images)
        process = self.processor.image_processor
        planned = self._planned(example, sizes)
        if planned is not None:
            images = [_resized(image, size) for image, size in zip(images, planned, strict=True)]
            process = partial(process, do_resize=False)
        tokenized = tokenize(
            example.prompt,
            self.processor,
            image_sizes=planned or sizes,
            chat_template_kwargs=self.chat_template_kwargs,
            chat_template_images=self.chat_template_images,
        )
        ids = list(tokenized.ids)
        check_length(example, tokenized, limit=self.max_prompt_tokens)
        inputs = self.family.preprocess(process, images) if images else ()
        self.preprocessed += len(images)
        return PreparedPrompt(
            example=example,
            ids=ids,
            spans=tuple(tokenized.spans),
            image_inputs=inputs,
            image_sizes=sizes,
            fed_sizes=tuple(self._fed_size(entry, size) for entry, size in zip(inputs, sizes, strict=True)),
        )

    def _planned(self, example: Example, sizes: Sequence[Size]) -> tuple[Size, ...] | None:
        """Sizes under the run's budget and the row's own limits; None where the processor's own rule decides alone."""
        try:
            return planned_sizes(example, sizes, vision=self._rule, budget=self.budget)
        except ValueError as error:
            raise PromptTooLongError(f"{example.source}: example {example.id}: {error}") from error

    def _rule(self) -> VisionSpec:
        if self._vision is None:
            self._vision = VisionSpec.from_processor(self.processor)
        return self._vision

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


def planned_sizes(
    example: Example, sizes: Sequence[Size], *, vision: Callable[[], VisionSpec], budget: Budget
) -> tuple[Size, ...] | None:
    """Sizes that a run resizes an example's images to before the processor; None where its own rule decides alone.

    That is the case without limits of the run or of the row, and for processors that tile. Raises ImageError.
    """
    own = any(image.min_pixels or image.max_pixels for image in example.images)
    if not example.images or not (own or budget != Budget()):
        return None
    plan = vision().plan(sizes, images=example.images, budget=budget)
    planned = tuple(size for size in plan.sizes if size is not None)
    return planned if len(planned) == len(sizes) else None


def _resized(image: Image.Image, size: Size) -> Image.Image:
    return image if (image.height, image.width) == size else Image.fromarray(resize(np.asarray(image), size))


def check_length(example: Example, tokenized: TokenizedPrompt, *, limit: int | None) -> None:
    """Refuse a prompt of more tokens than the run allows.

    Raises:
        PromptTooLongError: with the tokens, how many of them are its images', and the limit.
    """
    if limit is not None and len(tokenized.ids) > limit:
        image_tokens = sum(span.length for span in tokenized.spans)
        raise PromptTooLongError(
            f"{example.source}: example {example.id} needs {len(tokenized.ids)} tokens ({image_tokens} of them for its "
            f"{len(tokenized.spans)} images), at most {limit} are allowed; raise --max_prompt_tokens, lower "
            "--max_pixels, or drop the row (triptych check --max_prompt_tokens --fix)"
        )
