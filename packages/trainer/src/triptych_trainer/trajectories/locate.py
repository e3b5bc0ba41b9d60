"""Find images in tokens that somebody else wrote: the place of each image, and that no placeholder is left over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from triptych_parser import ImageSpan

__all__ = ["Written", "locate", "locate_in_turns", "runs_of", "written_images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Contains the tokens that a prompt has for one image."""

    ids: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    """(start, length) of each run of placeholders in `ids`."""

    @property
    def num_features(self) -> int:
        """How many feature rows the image fills."""
        return sum(length for _, length in self.runs)


def written_images(ids: Sequence[int], spans: Sequence[ImageSpan]) -> list[Written]:
    """Return what each image of a tokenized prompt is written as, in the order of its spans."""
    return [
        Written(
            ids=tuple(ids[span.start : span.start + span.length]),
            runs=tuple((start - span.start, length) for start, length in span.runs),
        )
        for span in spans
    ]


def locate(
    ids: Sequence[int], images: Sequence[Written], *, slot_ids: Collection[int], first: int = 0, stop: int | None = None
) -> list[ImageSpan] | None:
    """Return the span of each image in ``ids[first:stop]``, in order, or None if an image is missing or a placeholder
    is left.

    >>> locate([5, 9, 9, 6], [Written(ids=(9, 9), runs=((0, 2),))], slot_ids={9})
    [ImageSpan(start=1, length=2, image=0, runs=((1, 2),))]
    """
    stop = len(ids) if stop is None else stop
    spans: list[ImageSpan] = []
    covered, at = 0, first
    for number, image in enumerate(images):
        size = len(image.ids)
        found = next(
            (k for k in range(at, stop - size + 1) if ids[k] == image.ids[0] and tuple(ids[k : k + size]) == image.ids),
            None,
        )
        if found is None:
            return None
        runs = tuple((found + start, length) for start, length in image.runs)
        spans.append(ImageSpan(start=found, length=size, image=number, runs=runs))
        covered += image.num_features
        at = found + size
    return spans if covered == count_slots(ids[first:stop], slot_ids) else None


def locate_in_turns(
    ids: Sequence[int],
    sampled: Sequence[bool],
    *,
    count: int,
    written_as: Callable[[int, int], Sequence[Written]],
    slot_ids: Collection[int],
) -> tuple[list[list[ImageSpan]], int | None]:
    """Return the spans of ``count`` images in the runs of tokens that were not sampled, one list for each of these
    runs.

    ``written_as(first, stop)`` says how the images of these numbers are written where they arrive together. Second is
    the number of the run whose placeholders fit no images, if there is such a run; it is the last one in the list.
    """
    found: list[list[ImageSpan]] = []
    next_image = 0
    for number, (first, stop) in enumerate(runs_of(sampled, value=False)):
        spans: list[ImageSpan] | None = [] if not count_slots(ids[first:stop], slot_ids) else None
        for last in range(next_image + 1, count + 1) if spans is None else ():
            images = written_as(next_image, last)
            spans = locate(ids, images, slot_ids=slot_ids, first=first, stop=stop)
            if spans is not None:
                break
        if spans is None:
            return [*found, []], number
        found.append(spans)
        next_image += len(spans)
    return found, None


def runs_of(marks: Sequence[bool], *, value: bool) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of marks that are ``value``.

    >>> runs_of([True, False, False, True], value=False)
    [(1, 3)]
    """
    edges = [k for k in range(len(marks) + 1) if _is(marks, k - 1, value) != _is(marks, k, value)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def count_slots(ids: Sequence[int], slot_ids: Collection[int]) -> int:
    """Return how many of the tokens are placeholders of images."""
    return sum(token in slot_ids for token in ids)


def _is(marks: Sequence[bool], k: int, value: bool) -> bool:
    return 0 <= k < len(marks) and marks[k] == value
