"""One row looked at as a run would: parsed, bound, its images opened, its tokens counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from PIL import Image

from triptych_data.budget import Size
from triptych_data.describe import describe
from triptych_data.errors import ImageError
from triptych_data.example import Example, ImageSource
from triptych_data.fetch import open_image
from triptych_data.header import ImageHeader, parse_header, read_header
from triptych_data.model_tokens import ModelTokens
from triptych_data.pixels import is_guessed_around, load_pixels
from triptych_data.prompt_settings import PromptSettings
from triptych_data.rows import SourceRow
from triptych_data.seen_headers import image_in_example, key_of
from triptych_data.tally import Tally

GUESSED = "JPEGs with stray bytes or damage that decoders read over in silence"
_TINY_PIXELS = 28
_THIN_RATIO = 20


FurtherLook = Callable[[Example, Sequence[Size], Sequence[Size | None]], object]
"""Takes a row, the (height, width) of its images as decoded, and as a model sees them: None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Says what to look at, beyond what every run checks."""

    read: Callable[[SourceRow], Example]
    format_of: Callable[[SourceRow], str]
    """Names the format of a row that `read` accepted."""
    settings: PromptSettings = field(default_factory=PromptSettings)
    decode: bool = True
    decoded: dict[int, bool] = field(default_factory=dict)
    """The images that were decoded, by their places, and whether a decoder read over damage in them."""
    model: ModelTokens | None = None
    """Counts tokens; without it only sizes are known."""
    further: FurtherLook | None = None
    """Looks at what this package does not know; raises DataError where a run would refuse the row."""
    has_environment: bool = False
    """Whether an environment begins from the columns of a row, and says what a rollout was worth."""


def inspect_row(row: SourceRow, tally: Tally, *, inspection: Inspection) -> Example:
    """Look at one row and count it; raise DataError if a run would refuse it."""
    example = inspection.read(row)
    headers = [
        _look_at(image, number, example, tally, inspection) for number, image in enumerate(example.images, start=1)
    ]
    sizes = [(header.height, header.width) for header in headers]
    counted = None
    if inspection.model is not None:
        counted = describe(example, model=inspection.model, settings=inspection.settings, sizes=sizes).accepted()
    if inspection.further is not None:
        model_sizes = counted.images.model_sizes if counted is not None else (None,) * len(sizes)
        inspection.further(example, sizes, model_sizes)
    for header in headers:
        _count_image(header, tally)
    tally.read_as[inspection.format_of(row)] += 1
    tally.columns.update(example.extras.keys())
    tally.images_per_prompt[len(example.images)] += 1
    if counted is not None:
        tally.image_tokens.append(counted.num_image_tokens)
        tally.prompt_tokens.append(counted.num_tokens)
    if example.answer is None and not inspection.has_environment:
        tally.notes["rows without a reference answer"] += 1
    return example


def _look_at(image: ImageSource, number: int, example: Example, tally: Tally, inspection: Inspection) -> ImageHeader:
    policy = inspection.settings.policy
    try:
        if isinstance(image.ref, Image.Image):
            header = read_header(image, policy=policy)
            if inspection.decode:
                load_pixels(image, policy=policy)
            return header
        with open_image(image, policy=policy) as stream:
            header = parse_header(stream, image=str(image), policy=policy)
            tally.bytes += stream.seek(0, os.SEEK_END)
            if inspection.decode and _is_guessed(image, stream, inspection):
                tally.notes[GUESSED] += 1
        return header
    except ImageError as error:
        raise image_in_example(error, example, image, number) from error


def _is_guessed(image: ImageSource, stream: BinaryIO, inspection: Inspection) -> bool:
    """Decode an image that was not decoded before; whether a decoder reads over damage in it."""
    key = key_of(image)
    if key not in inspection.decoded:
        stream.seek(0)
        policy = inspection.settings.policy
        inspection.decoded[key] = is_guessed_around(stream.read(), image=str(image), policy=policy)
    return inspection.decoded[key]


def _count_image(header: ImageHeader, tally: Tally) -> None:
    tally.formats[header.format] += 1
    tally.long_sides.append(max(header.height, header.width))
    tally.kilopixels.append(header.height * header.width // 1000)
    for note in image_notes(header):
        tally.notes[note] += 1


def image_notes(header: ImageHeader) -> list[str]:
    """Return what is odd about an image that a run reads all the same."""
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
