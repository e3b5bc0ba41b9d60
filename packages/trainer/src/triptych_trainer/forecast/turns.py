"""Rollouts with tools as a forecast counts them: a stated number of turns, each with images of stated sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from triptych_data.budget import Size
from triptych_parser import ImageSpan

from triptych_trainer.errors import UsageError
from triptych_trainer.forward import CompletionImage
from triptych_trainer.models.families import Family, ImageInputs
from triptych_trainer.models.image_processor import image_processor_of
from triptych_trainer.trajectories.writer import TurnWriter

__all__ = ["PlannedTurns", "completion_images", "image_sizes", "planned_turns"]

_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTurns:
    """Says what arrives in every rollout of a planned run."""

    count: int
    """Turns whose calls are answered; the model writes one message more."""
    ids: tuple[int, ...]
    """The tokens of the results of one turn."""
    spans: tuple[ImageSpan, ...]
    """The images of a turn, counted from its first token."""
    images: tuple[ImageInputs, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all results of a rollout, images included."""
        return self.count * len(self.ids)

    @property
    def num_image_tokens(self) -> int:
        """Placeholders of the images of one turn."""
        return sum(span.num_features for span in self.spans)

    def runs(self, completion_tokens: int) -> list[int]:
        """Return how many tokens are sampled in each message of a rollout that has a given number of tokens.

        Raises:
            UsageError: the results leave no room for the messages.
        """
        sampled, messages = completion_tokens - self.num_tokens, self.count + 1
        if sampled < messages:
            raise UsageError(
                f"--turns {self.count}: the results of a turn take {len(self.ids)} tokens, {self.num_image_tokens} of "
                f"them for images, so that {self.count} turns and {messages} messages need at least "
                f"{self.num_tokens + messages} tokens, got --max_completion_length {completion_tokens}, which counts "
                "results and images; raise it, or lower --turns or --turn_image"
            )
        each = sampled // messages
        return [*[each] * self.count, sampled - each * self.count]

    def trained(self, completion_tokens: int) -> list[bool]:
        """Return for each token of a rollout whether it is sampled."""
        *before, last = self.runs(completion_tokens)
        found: list[bool] = []
        for length in before:
            found += [True] * length + [False] * len(self.ids)
        return [*found, *[True] * last]

    def places(self, completion_tokens: int) -> list[ImageSpan]:
        """Return the images of a rollout that has a given number of tokens, in order."""
        found: list[ImageSpan] = []
        end = 0
        for length in self.runs(completion_tokens)[:-1]:
            end += length
            found += [_moved(span, by=end, image=len(found) + k) for k, span in enumerate(self.spans)]
            end += len(self.ids)
        return found


def image_sizes(words: Sequence[str]) -> list[Size]:
    """Return the (height, width) that ``--turn_image`` says, each written as width x height.

    Raises:
        UsageError: a word is no size.
    """
    found = [_SIZE.fullmatch(word) for word in words]
    for word, size in zip(words, found, strict=True):
        if size is None:
            raise UsageError(f"--turn_image: expected width and height in pixels such as 448x336, got {word!r}")
    return [(int(size[2]), int(size[1])) for size in found if size is not None]


def planned_turns(writer: TurnWriter, *, family: Family, name: str, count: int, sizes: Sequence[Size]) -> PlannedTurns:
    """Return the turns of a plan, written by the chat template that will write those of the run; images are blank.

    Raises:
        UsageError: the model cannot be shown an image of this size.
    """
    pictures = [Image.new("RGB", (width, height), "white") for height, width in sizes]
    suffix = writer.suffix([(name, pictures or ["done"])], where="--turn_image")
    process: Any = image_processor_of(writer.processor)
    alone = len(pictures) == 1
    return PlannedTurns(
        count=count,
        ids=suffix.ids,
        spans=suffix.spans,
        images=tuple(family.preprocess_arrived(process, picture, alone=alone) for picture in pictures),
    )


def completion_images(
    turns: PlannedTurns, *, completion_tokens: int, first: int, rollout: int
) -> tuple[list[CompletionImage], list[ImageInputs]]:
    """Return the images of one rollout, all of them different, from index ``first`` of a batch on."""
    places = turns.places(completion_tokens)
    found = [
        CompletionImage(image=first + k, span=span, name=f"rollout {rollout + 1}, image {k + 1}")
        for k, span in enumerate(places)
    ]
    return found, list(turns.images) * turns.count


def _moved(span: ImageSpan, *, by: int, image: int) -> ImageSpan:
    runs = tuple((start + by, length) for start, length in span.runs)
    return ImageSpan(start=span.start + by, length=span.length, image=image, runs=runs)
