"""The input of a turn when only the last images are kept: the messages, with texts in the place of older images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from triptych_parser import ImageSpan

from triptych_trainer.trajectories.results import Piece
from triptych_trainer.trajectories.writer import Suffix

__all__ = ["History", "bounded_history", "moved"]

Results = Sequence[tuple[str, Sequence[Piece]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Contains the tokens after the prompt, and the images in them."""

    ids: tuple[int, ...]
    spans: tuple[ImageSpan, ...]
    """Places are counted from the first token of `ids`; ``span.image`` counts the kept images, from 0."""
    numbers: tuple[int, ...]
    """The numbers of the kept images among all images that arrived, from 0."""
    short_ids: tuple[int, ...] = ()
    """The same tokens with one placeholder per image; empty where nobody asked for them."""


def bounded_history(
    said: Sequence[Sequence[int]],
    results: Sequence[Results],
    *,
    kept: int,
    first_number: int,
    suffix_of: Callable[[Results], Suffix],
) -> History:
    """Return the messages ``said`` and the ``results`` of their calls, with the last ``kept`` images.

    ``first_number`` is how many images the prompt contains: texts name an image by its number, as tools do.
    """
    total = sum(isinstance(piece, Image.Image) for turn in results for _, pieces in turn for piece in pieces)
    ids: list[int] = []
    short_ids: list[int] = []
    spans: list[ImageSpan] = []
    number = 0
    for message, turn in zip(said, results, strict=True):
        ids += message
        short_ids += message
        shown = []
        for name, pieces in turn:
            written: list[Piece] = []
            for piece in pieces:
                older = isinstance(piece, Image.Image) and number < total - kept
                written.append(f"(image {first_number + number + 1}, no longer shown)" if older else piece)
                number += isinstance(piece, Image.Image)
            shown.append((name, written))
        suffix = suffix_of(shown)
        spans += [moved(span, by=len(ids), image=len(spans) + k) for k, span in enumerate(suffix.spans)]
        ids += suffix.ids
        short_ids += suffix.short_ids
    return History(
        ids=tuple(ids),
        spans=tuple(spans),
        numbers=tuple(range(max(0, total - kept), total)),
        short_ids=tuple(short_ids),
    )


def moved(span: ImageSpan, *, by: int, image: int) -> ImageSpan:
    """Return the same span at a later place, as the span of another image."""
    runs = tuple((start + by, length) for start, length in span.runs)
    return ImageSpan(start=span.start + by, length=span.length, image=image, runs=runs)
