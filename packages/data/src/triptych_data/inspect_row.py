"""One row looked at as a run would: parsed, bound, its images opened, its tokens counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triptych_parser import MarkerError, tokenize

from triptych_data.budget import Budget, Size
from triptych_data.errors import DataError, ImageError
from triptych_data.example import Example, ImageSource
from triptych_data.fetch import open_image
from triptych_data.header import ImageHeader, parse_header, read_header
from triptych_data.pixels import decode
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.read import image_in_example
from triptych_data.rows import Row
from triptych_data.tally import Tally
from triptych_data.vision import VisionSpec

_TINY_PIXELS = 28
_THIN_RATIO = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What to look at, beyond what every run checks."""

    read: Callable[[Row], Example]
    policy: ImagePolicy = DEFAULT_POLICY
    decode: bool = False
    processor: Any = None
    image_token: str | None = None
    """Placeholder of one image token, where `processor` is a tokenizer alone."""
    vision: VisionSpec | None = None
    budget: Budget = field(default_factory=Budget)
    max_prompt_tokens: int | None = None


def inspect_row(row: Row, tally: Tally, *, inspection: Inspection) -> Example:
    """Look at one row and count it; DataError where a run would refuse it."""
    example = inspection.read(row)
    headers = [
        _look_at(image, number, example, tally, inspection) for number, image in enumerate(example.images, start=1)
    ]
    sizes = [(header.height, header.width) for header in headers]
    tokens = _count_tokens(example, sizes, inspection)
    for header in headers:
        _count_image(header, tally)
    tally.images_per_prompt[len(example.images)] += 1
    if tokens is not None:
        tally.image_tokens.append(tokens[0])
        tally.prompt_tokens.append(tokens[1])
    if example.answer is None:
        tally.notes["rows without a reference answer"] += 1
    return example


def _look_at(image: ImageSource, number: int, example: Example, tally: Tally, inspection: Inspection) -> ImageHeader:
    try:
        if not isinstance(image.ref, (str, bytes)):
            return read_header(image, policy=inspection.policy)
        with open_image(image, policy=inspection.policy) as stream:
            header = parse_header(stream, image=str(image), policy=inspection.policy)
            tally.bytes += stream.seek(0, os.SEEK_END)
            if inspection.decode:
                stream.seek(0)
                decode(stream.read(), image=str(image), policy=inspection.policy)
        return header
    except ImageError as error:
        raise image_in_example(error, example, image, number) from error


def _count_tokens(example: Example, sizes: list[Size], inspection: Inspection) -> tuple[int, int] | None:
    """(image tokens, all tokens) of the prompt, from headers; None without a model."""
    if inspection.vision is None:
        return None
    try:
        plan = inspection.vision.plan(sizes, images=example.images, budget=inspection.budget)
        seen = [size if final is None else final for size, final in zip(sizes, plan.sizes, strict=True)]
        known: dict[str, Any] = {"image_sizes": seen}
        if inspection.image_token is not None:
            known = {"image_token": inspection.image_token, "image_tokens": plan.tokens}
        tokenized = tokenize(example.prompt, inspection.processor, **known)
    except (ImageError, MarkerError) as error:
        raise uncounted(error, example) from error
    total, limit = tokenized.num_tokens, inspection.max_prompt_tokens
    images = sum(span.num_features for span in tokenized.spans)
    if limit is not None and total > limit:
        raise too_long(example, tokens=total, image_tokens=images, limit=limit)
    return images, total


def uncounted(error: ImageError | MarkerError, example: Example) -> DataError:
    """The refusal of a row whose images cannot be planned or whose prompt cannot be tokenized."""
    name = None if example.id == example.source else example.id
    if isinstance(error, ImageError):
        reason, remedy, kind = f"{error.image}: {error.reason}", error.remedy, error.kind
    else:
        reason, remedy, kind = error.problem, error.remedy or "correct the prompt", "tokens"
    return DataError(reason, source=example.source, id=name, remedy=remedy, kind=kind)


def too_long(example: Example, *, tokens: int, image_tokens: int, limit: int) -> DataError:
    """The refusal of a row with more prompt tokens than allowed."""
    num_images = len(example.images)
    return DataError(
        f"expected at most {limit} prompt tokens, got {tokens}, {image_tokens} of them for {num_images} images",
        source=example.source,
        id=None if example.id == example.source else example.id,
        remedy="raise the limit, lower max_pixels or drop the row",
        kind="budget",
    )


def _count_image(header: ImageHeader, tally: Tally) -> None:
    tally.formats[header.format] += 1
    tally.long_sides.append(max(header.height, header.width))
    tally.kilopixels.append(header.height * header.width // 1000)
    for note in image_notes(header):
        tally.notes[note] += 1


def image_notes(header: ImageHeader) -> list[str]:
    """What is odd about an image that a run reads all the same."""
    long, short = max(header.height, header.width), min(header.height, header.width)
    notes = {
        "turned by EXIF (are boxes in turned coordinates?)": header.orientation != 1,
        "with transparency, composited on the background": header.alpha,
        "16 bits per channel, shifted to 8": header.mode.startswith("I;16"),
        "CMYK, converted": header.mode == "CMYK",
        f"smaller than {_TINY_PIXELS} pixels on a side": short < _TINY_PIXELS,
        f"thinner than 1:{_THIN_RATIO}": long > _THIN_RATIO * short,
        "animations or pages, first frame only": header.animated,
    }
    return [note for note, holds in notes.items() if holds]
