"""What each row of the data costs in tokens, from image headers and the tokenizer; and the batches that cost most."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from triptych_data import Budget, Example, ImageError, ImagePolicy, VisionSpec, probe_image
from triptych_data.budget import Size
from triptych_data.read import image_in_example
from triptych_parser import ImageSpan, tokenize

from triptych_trainer.forward import GroupBatch
from triptych_trainer.models.families import Family
from triptych_trainer.models.load import set_pixels
from triptych_trainer.options.arguments import RunConfig, image_policy
from triptych_trainer.prompts.prepare import PromptTooLongError, check_length, planned_sizes

__all__ = ["PlannedRow", "Rows", "group_batch", "heaviest", "typical"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRow:
    """One row, counted."""

    example: Example
    num_tokens: int
    image_tokens: int
    sizes: tuple[Size, ...]
    """(height, width) of each image as its file has it."""
    fed: tuple[Size, ...]
    """The same as it goes to the image processor, under the run's budget."""
    limited: bool
    """Whether a budget, and not the image processor, decides about sizes."""
    shown: tuple[int, ...]
    """Which image each marker shows, counted from 0."""

    @property
    def place(self) -> str:
        """Where the row stands and what it holds, for people."""
        images = f"{len(self.sizes)} image{'s' * (len(self.sizes) != 1)}"
        name = "" if self.example.id == self.example.source else f", id {self.example.id}"
        return f"{self.example.source}{name}: {images}, {self.num_tokens:,} tokens ({self.image_tokens:,} of images)"


class Rows:
    """Counts rows as a run would: same budget, same chat template, same tokenizer, no pixel decoded."""

    def __init__(self, processor: Any, config: RunConfig) -> None:
        self.processor = processor
        self.vision = VisionSpec.from_processor(processor)
        self.budget = Budget(max_prompt_image_tokens=config.run.max_prompt_image_tokens)
        self.template: dict[str, Any] = dict(config.grpo.chat_template_kwargs or {})
        self.chat_template_images: Any = config.run.chat_template_images
        self.policy = image_policy(config.run)
        self.max_prompt_tokens = config.run.max_prompt_tokens

    def count(self, examples: Sequence[Example], *, progress: Callable[[int], object] = int) -> list[PlannedRow]:
        """Count each example.

        Raises:
            DataError: an image's header cannot be read.
            PromptTooLongError: a row has more tokens than the run allows, or its images cannot meet the budget.
        """
        found = []
        for number, example in enumerate(examples, start=1):
            found.append(self.row(example, sizes=_sizes(example, self.policy)))
            progress(number)
        return found

    def row(self, example: Example, *, sizes: tuple[Size, ...]) -> PlannedRow:
        """Count one example, as ``PromptPreparer`` would prepare it."""
        planned = self._planned(example, sizes)
        tokenized = tokenize(
            example.prompt,
            self.processor,
            image_sizes=planned or sizes,
            chat_template_kwargs=self.template,
            chat_template_images=self.chat_template_images,
        )
        check_length(example, tokenized, limit=self.max_prompt_tokens)
        return PlannedRow(
            example=example,
            num_tokens=len(tokenized.ids),
            image_tokens=sum(length for span in tokenized.spans for _, length in span.runs),
            sizes=sizes,
            fed=planned or sizes,
            limited=planned is not None,
            shown=tuple(span.image for span in tokenized.spans),
        )

    def prompt(self, row: PlannedRow, *, family: Family) -> tuple[list[int], tuple[ImageSpan, ...], tuple[Any, ...]]:
        """Ids, spans and image inputs of a row; blank images of the same sizes stand for its own."""
        tokenized = tokenize(
            row.example.prompt,
            self.processor,
            image_sizes=row.fed,
            chat_template_kwargs=self.template,
            chat_template_images=self.chat_template_images,
        )
        blank = [Image.new("RGB", (width, height), "white") for height, width in row.fed]
        process = self.processor.image_processor
        if row.limited:
            inputs = family.preprocess(lambda **given: process(do_resize=False, **given), blank)
        else:
            inputs = family.preprocess(process, blank) if blank else ()
        return list(tokenized.ids), tuple(tokenized.spans), tuple(inputs)

    def with_pixels(self, max_pixels: int) -> Rows:
        """The same counting under another ``--max_pixels``; for processors that resize to a number of pixels."""
        other = copy.copy(self)
        other.processor = copy.copy(self.processor)
        other.processor.image_processor = copy.copy(self.processor.image_processor)
        set_pixels(other.processor.image_processor, min_pixels=None, max_pixels=max_pixels)
        other.vision = VisionSpec.from_processor(other.processor)
        return other

    def recount(self, rows: Sequence[PlannedRow]) -> list[PlannedRow]:
        """Rows counted before, under this object's limits: only the images' tokens change, the text stays.

        Raises:
            PromptTooLongError: the images of a row cannot meet the run's budget.
        """
        return [self._recounted(row) if row.sizes else row for row in rows]

    def _recounted(self, row: PlannedRow) -> PlannedRow:
        planned = self._planned(row.example, row.sizes)
        tokens = self.vision.plan(planned or row.sizes, images=row.example.images).tokens
        image_tokens = sum(tokens[image] for image in row.shown)
        return replace(
            row,
            num_tokens=row.num_tokens - row.image_tokens + image_tokens,
            image_tokens=image_tokens,
            fed=planned or row.sizes,
            limited=planned is not None,
        )

    def _planned(self, example: Example, sizes: tuple[Size, ...]) -> tuple[Size, ...] | None:
        try:
            return planned_sizes(example, sizes, vision=lambda: self.vision, budget=self.budget)
        except (ImageError, ValueError) as error:
            raise PromptTooLongError(f"{example.source}: example {example.id}: {error}") from error


def _sizes(example: Example, policy: ImagePolicy) -> tuple[Size, ...]:
    sizes = []
    for number, image in enumerate(example.images, start=1):
        try:
            sizes.append(probe_image(image, policy=policy))
        except ImageError as error:
            raise image_in_example(error, example, image, number) from error
    return tuple(sizes)


def heaviest(rows: Sequence[PlannedRow], count: int) -> list[PlannedRow]:
    """The ``count`` rows with the most tokens; with equal tokens, more image tokens go first, then the earlier row."""
    order = sorted(range(len(rows)), key=lambda k: (-rows[k].num_tokens, -rows[k].image_tokens, k))
    return [rows[k] for k in order[:count]]


def typical(rows: Sequence[PlannedRow], count: int) -> list[PlannedRow]:
    """``count`` rows whose numbers of tokens are nearest to the mean."""
    mean = sum(row.num_tokens for row in rows) / len(rows)
    order = sorted(range(len(rows)), key=lambda k: (abs(rows[k].num_tokens - mean), k))
    return [rows[k] for k in order[:count]]


def group_batch(
    rows: Sequence[PlannedRow], *, counter: Rows, family: Family, group_sizes: Sequence[int], completion_tokens: int
) -> GroupBatch:
    """The batch of these prompts with ``group_sizes[p]`` completions of the given length each."""
    prompts, spans, indices = [], [], []
    images: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in rows:
            ids, found, inputs = counter.prompt(row, family=family)
            prompts.append(ids)
            spans.append(found)
            indices.append(list(range(len(images), len(images) + len(inputs))))
            images.extend(inputs)
    completions = [[[1] * completion_tokens] * size for size in group_sizes]
    return GroupBatch.build(prompts, completions=completions, spans=spans, image_indices=indices, images=images)
