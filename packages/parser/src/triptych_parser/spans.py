"""Token ids with every image at its full length, and the span of each image in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych_parser.expanders import Expansion
from triptych_parser.place import Place

__all__ = ["Edges", "ImageSpan", "TokenizedPrompt", "expand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpan:
    """Says where the image of one marker is in the ids.

    >>> ImageSpan(start=3, length=6, image=0, runs=((4, 4),)).num_features
    4
    """

    start: int
    """First position of the image: its opening special token, or its first placeholder where it has none."""
    length: int
    """How many positions from there to its last special token or placeholder."""
    image: int
    """0-based index of the image among the images of the sample."""
    runs: tuple[tuple[int, int], ...]
    """(start, length) of each run of placeholders that receive feature rows, in order."""

    @property
    def num_features(self) -> int:
        """How many feature rows the image fills.

        >>> ImageSpan(start=0, length=9, image=0, runs=((1, 3), (5, 3))).num_features
        6
        """
        return sum(length for _, length in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedPrompt:
    """Contains the ids of a prompt `ids_T` and one span per marker, in the order of the markers.

    >>> TokenizedPrompt(ids=[5, 6], spans=()).num_tokens
    2
    """

    ids: list[int]
    spans: tuple[ImageSpan, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the prompt in tokens.

        >>> TokenizedPrompt(ids=[1, 2, 3], spans=()).num_tokens
        3
        """
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Contains the ids around an image, and whether they are part of its expansion or only its neighbours."""

    placeholder: int
    opening: int | None
    closings: tuple[int, ...]
    inside: bool


def expand(
    ids: list[int], *, expansions: Sequence[Expansion], images: Sequence[int], edges: Edges, place: Place
) -> TokenizedPrompt:
    """Repeat every placeholder as often as its run says, and note the place of each image.

    Raises MarkerError when `ids` does not hold one placeholder per run.
    """
    written = sum(len(expansion.runs) for expansion in expansions)
    found = ids.count(edges.placeholder)
    if found != written:
        raise place.error(
            "the tokenizer did not keep every image placeholder",
            expected=written,
            got=found,
            remedy="register the image token as a special token of the tokenizer",
        )
    out: list[int] = []
    spans: list[ImageSpan] = []
    cursor = floor = 0  # next id to copy; first position of `out` after the last image
    for image, expansion in zip(images, expansions, strict=True):
        runs: list[tuple[int, int]] = []
        for count in expansion.runs:
            at = ids.index(edges.placeholder, cursor)
            out += ids[cursor:at]
            runs.append((len(out), count))
            out += [edges.placeholder] * count
            cursor = at + 1
        start = _start(out, runs[0][0], floor, edges)
        stop = _stop(ids, cursor, edges)
        out += ids[cursor:stop]
        cursor, floor = stop, len(out)
        spans.append(ImageSpan(start=start, length=floor - start, image=image, runs=tuple(runs)))
    out += ids[cursor:]
    return TokenizedPrompt(ids=out, spans=tuple(spans))


def _start(out: list[int], first: int, floor: int, edges: Edges) -> int:
    """Position of the opening token before the first placeholder, or that placeholder's where there is none."""
    lowest = floor if edges.inside else max(floor, first - 1)
    return next((at for at in range(first - 1, lowest - 1, -1) if out[at] == edges.opening), first)


def _stop(ids: list[int], cursor: int, edges: Edges) -> int:
    """Offset in `ids` just past the closing token, or `cursor` where there is none."""
    if edges.inside:
        return next((at + 1 for at in range(cursor, len(ids)) if ids[at] in edges.closings), cursor)
    return cursor + (ids[cursor : cursor + 1] in [[closing] for closing in edges.closings])
