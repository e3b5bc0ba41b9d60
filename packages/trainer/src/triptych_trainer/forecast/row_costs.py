"""What each row of the data costs in tokens, from image headers and the tokenizer; and the batches that cost most."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image
from triptych_data import Example, ImageSource
from triptych_data.budget import Size
from triptych_data.describe import ImageCount, count_images, describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_data.seen_headers import SeenHeaders, header_sizes
from triptych_parser import ImageSpan
from triptych_parser.printable import printable

from triptych_trainer.forecast.turns import PlannedTurns, completion_images
from triptych_trainer.forward import GroupBatch
from triptych_trainer.models.families import Family
from triptych_trainer.models.image_processor import image_processor_of

__all__ = ["RowCost", "RowCounter", "group_batch", "heaviest"]


_STUB = Image.new("RGB", (1, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCost:
    """Says what one row costs."""

    example: Example
    num_tokens: int
    images: ImageCount

    @property
    def image_tokens(self) -> int:
        """Tokens of the images, over all markers."""
        return self.images.total

    @property
    def given_sizes(self) -> tuple[Size, ...]:
        """(height, width) of each image as it goes to the image processor."""
        return self.images.resized or self.images.sizes

    @property
    def place(self) -> str:
        """The place of the row and the number of its images and tokens, for messages."""
        count = len(self.images.sizes)
        images = f"{count} image{'s' * (count != 1)}"
        name = "" if self.example.id == self.example.source else f", id {self.example.id}"
        counts = f"{images}, {self.num_tokens:,} tokens ({self.image_tokens:,} of images)"
        return printable(f"{self.example.source}{name}: {counts}", kept="")


class RowCounter:
    """Counts rows as a run does: by the same ``describe``, from headers, with no pixel decoded."""

    def __init__(self, processor: Any, settings: PromptSettings, *, seen: SeenHeaders | None = None) -> None:
        """Count for a processor under the settings of a run; headers that are ``seen`` are not read again."""
        self.model = ModelTokens.of(processor)
        self.settings = settings
        self.seen = seen

    def count(
        self,
        examples: Sequence[Example],
        *,
        progress: Callable[[int], object] = int,
        begun: Callable[[Example], Example] | None = None,
    ) -> list[RowCost]:
        """Count each example; ``begun`` is what a run with tools makes of it first.

        Raises:
            DataError: a run would refuse the row.
        """
        found = []
        for number, example in enumerate(examples, start=1):
            if begun is None:
                found.append(self.row(example))
            else:
                counted = self.row(begun(example))
                found.append(replace(counted, example=_without_pictures(counted.example, len(example.images))))
            progress(number)
        return found

    def row(self, example: Example, *, sizes: Sequence[Size] | None = None) -> RowCost:
        """Count one example, as ``PromptPreparer`` would prepare it; without ``sizes`` the headers are read."""
        if sizes is None:
            sizes = header_sizes(example, policy=self.settings.policy, seen=self.seen)
        counted = describe(example, model=self.model, settings=self.settings, sizes=sizes).accepted()
        return RowCost(example=example, num_tokens=counted.num_tokens, images=counted.images)

    def prompt(self, row: RowCost, *, family: Family) -> tuple[list[int], tuple[ImageSpan, ...], tuple[Any, ...]]:
        """Return the ids, spans and image inputs of a row; blank images of the same sizes replace its own."""
        counted = describe(row.example, model=self.model, settings=self.settings, sizes=row.images.sizes)
        blank = [Image.new("RGB", (width, height), "white") for height, width in row.given_sizes]
        process = image_processor_of(self.model.processor)
        if row.images.resized is not None:
            process = partial(process, do_resize=False)
        inputs = family.preprocess(process, blank) if blank else ()
        return counted.ids, counted.spans, tuple(inputs)

    def with_pixels(self, max_pixels: int) -> RowCounter:
        """Return the same counting under another ``--max_pixels``; for processors that resize to a number of pixels."""
        other = copy.copy(self)
        other.model = self.model.with_pixels(max_pixels=max_pixels)
        return other

    def recount(self, rows: Sequence[RowCost]) -> list[RowCost]:
        """Return a row that was counted before under this object's limits: only its images' tokens change, not its
        text.

        Raises:
            DataError: the images of a row cannot meet the run's budget.
        """
        return [self._recounted(row) if row.images.sizes else row for row in rows]

    def _recounted(self, row: RowCost) -> RowCost:
        images = count_images(row.example, model=self.model, settings=self.settings, sizes=row.images.sizes)
        return replace(row, num_tokens=row.num_tokens - row.image_tokens + images.total, images=images)


def _without_pictures(example: Example, count: int) -> Example:
    """The example with a stub for every image after the first ``count``: its size is counted, and nothing kept."""
    images = tuple(image if k < count else ImageSource(ref=_STUB) for k, image in enumerate(example.images))
    return replace(example, images=images)


def heaviest(rows: Sequence[RowCost], count: int) -> list[RowCost]:
    """Return the ``count`` rows with the most tokens; with equal tokens, more image tokens go first, then the earlier
    row.
    """
    order = sorted(range(len(rows)), key=lambda k: (-rows[k].num_tokens, -rows[k].image_tokens, k))
    return [rows[k] for k in order[:count]]


def group_batch(
    rows: Sequence[RowCost],
    *,
    counter: RowCounter,
    family: Family,
    group_sizes: Sequence[int],
    completion_tokens: int,
    turns: PlannedTurns | None = None,
) -> GroupBatch:
    """Return the batch of these prompts with ``group_sizes[p]`` completions of the given length each.

    With ``turns`` images arrive in every completion, none of them like another.
    """
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
    arrived = []
    for size in group_sizes:
        group = []
        for rollout in range(size if turns is not None else 0):
            assert turns is not None
            places, inputs_of = completion_images(
                turns, completion_tokens=completion_tokens, first=len(images), rollout=rollout
            )
            group.append(places)
            images.extend(inputs_of)
        arrived.append(group)
    trained = [True] * completion_tokens if turns is None else turns.trained(completion_tokens)
    return GroupBatch.build(
        prompts,
        completions=[[[1] * completion_tokens] * size for size in group_sizes],
        spans=spans,
        image_indices=indices,
        images=images,
        trained=[[trained] * size for size in group_sizes],
        completion_images=None if turns is None else arrived,
        image_keys=[str(k) for k in range(len(images))],
    )
