"""Points in text, as models that point or click write them. Pure; text is never an error."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.rewards.boxes import BOX_KEYS, IMAGE_KEYS
from triptych_trainer.rewards.citation import image_index, mentioned_images
from triptych_trainer.rewards.literals import literal_at
from triptych_trainer.rewards.row import ImageInfo

__all__ = ["Point", "read_points"]

POINT_KEYS = ("point_2d", "point", "coordinate", "coordinates", "position", "start_box", "click", "location")
MOST_POINTS = 100
_TRIES = 16
_DEEPEST = 6

_N = r"(-?\d{1,9}(?:\.\d{1,9})?|-?\.\d{1,9})"
_GAP = r"\s{0,4}(?:,\s{0,4}|\s)"
_NAMED = rf"\bx\d?\s{{0,2}}[=:]\s{{0,2}}[\"']?{_N}[\"']?{_GAP}y\d?\s{{0,2}}[=:]\s{{0,2}}[\"']?{_N}"
_PAIR = rf"{_N}{_GAP}{_N}"
_IN_TEXT = re.compile(
    rf"<\|box_start\|>\s{{0,4}}\({_PAIR}\),?\s{{0,2}}\({_PAIR}\)"  # <|box_start|>(10,20),(30,40)<|box_end|>
    rf"|{_NAMED}"  # click(x=10, y=20), <point x="10.5" y="20">
    rf"|[\[(]\s{{0,4}}{_PAIR}(?:{_GAP}{_PAIR})?\s{{0,4}}[\])]"  # (10, 20), [10, 20], [10, 20, 30, 40]
    rf"|<(?:point|click|coordinate|box)>\s{{0,4}}{_PAIR}(?:{_GAP}{_PAIR})?\s{{0,4}}</",  # <point>10 20</point>
    re.IGNORECASE,
)
_BARE = re.compile(rf"\s{{0,9}}{_PAIR}\s{{0,9}}")
_START = re.compile(r"\{|\[\s*\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Contains a place in the numbers that were written; `image` counts from 0, None if not said, -1 if there is no
    such image.
    """

    x: float
    y: float
    image: int | None = None


def read_points(text: str, *, images: Sequence[ImageInfo] = ()) -> list[Point]:
    """Return the different points of a text, in order; a box counts as its centre.

    Read are `(x, y)` and `[x, y]`, alone or as the argument of a call such as `click(120, 340)`; `click(x=120, y=340)`;
    `<point>120 340</point>` and `<point x="12.5" y="40">`; `<|box_start|>(120,340)<|box_end|>`; and objects with
    `point_2d`, `point`, `coordinate`, or `x` and `y`, at any depth, as tool calls have them. An image is said as for
    boxes: `"image": 2` in the object, or `image 2` before the point.
    """
    for start in [match.start() for match in _START.finditer(text)][:_TRIES]:
        found = list(_from_objects(literal_at(text, start), images, depth=0))
        if found:
            return list(dict.fromkeys(found))[:MOST_POINTS]
    found = list(_from_prose(text, images))
    if not found and (bare := _BARE.fullmatch(text)):
        found = [Point(x=float(bare.group(1)), y=float(bare.group(2)))]
    return list(dict.fromkeys(found))[:MOST_POINTS]


def _from_objects(value: Any, images: Sequence[ImageInfo], *, depth: int) -> Iterator[Point]:
    if depth > _DEEPEST or not isinstance(value, (list, Mapping)):
        return
    if isinstance(value, list):
        for entry in value:
            yield from _from_objects(entry, images, depth=depth + 1)
        return
    place = next((found for key in (*POINT_KEYS, *BOX_KEYS) if (found := _centre(value.get(key))) is not None), None)
    if place is None:
        place = _centre([value.get("x"), value.get("y")])
    if place is None:
        for entry in value.values():
            yield from _from_objects(entry, images, depth=depth + 1)
        return
    named = next((value[key] for key in IMAGE_KEYS if value.get(key) is not None), None)
    index = None if named is None else image_index(str(named), images)
    yield Point(x=place[0], y=place[1], image=-1 if named is not None and index is None else index)


def _centre(value: Any) -> tuple[float, float] | None:
    """Return (x, y) of two numbers, of four that are corners, or of a text or a list that contains one such value."""
    if isinstance(value, str):
        match = _IN_TEXT.search(value) or _BARE.fullmatch(value)
        return None if match is None else _middle(match)
    if isinstance(value, list) and len(value) == 1:
        return _centre(value[0])
    if not isinstance(value, list) or len(value) not in (2, 4):
        return None
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in value):
        return None
    return (value[0] + value[-2]) / 2, (value[1] + value[-1]) / 2


def _from_prose(text: str, images: Sequence[ImageInfo]) -> Iterator[Point]:
    end, image = 0, None
    for match in _IN_TEXT.finditer(text):
        cited = mentioned_images(text[end : match.start()], images)
        if cited:
            image = next(iter(cited)) if len(cited) == 1 else -1
        x, y = _middle(match)
        yield Point(x=x, y=y, image=image)
        end = match.end()


def _middle(match: re.Match[str]) -> tuple[float, float]:
    numbers = [float(group) for group in match.groups() if group is not None]
    return (numbers[0] + numbers[-2]) / 2, (numbers[1] + numbers[-1]) / 2
