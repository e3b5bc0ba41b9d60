"""Boxes in text: read them, say which image they are in, scale them, compare them. Pure; text is never an error."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych_trainer.rewards.citation import image_index, mentioned_images
from triptych_trainer.rewards.frames import Frame, scale_to_seen
from triptych_trainer.rewards.literals import literal_at, whole_literal
from triptych_trainer.rewards.pairing import best_pairs
from triptych_trainer.rewards.row import ImageInfo

BOX_KEYS = ("bbox_2d", "bbox", "box", "box_2d")
_HEIGHT_FIRST = ("box_2d",)
"""Gemini and Gemma write [ymin, xmin, ymax, xmax] under this key."""
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIZED = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_SIZED_KEYS = ("bbox_xywh", "box_xywh", "xywh")
_FORMAT_KEYS = ("format", "bbox_format", "box_format", "bbox_type")
IMAGE_KEYS = ("image", "image_id", "image_index", "image_number")
MOST_BOXES = 500
_TRIES = 16

_N = r"\s{0,8}(-?\d{1,9}(?:\.\d{1,9})?)\s{0,8}"
_IN_TEXT = re.compile(rf"\[{_N},{_N},{_N},{_N}\]|\({_N},{_N}\),?\s{{0,2}}\({_N},{_N}\)|\({_N},{_N},{_N},{_N}\)")
_START = re.compile(r"\{|\[\s*[\[{(]|\[\s*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Contains corners in pixels, left <= right and top <= bottom if well formed; `image` counts from 0, None if not
    said.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    image: int | None = None
    label: str | None = None

    @property
    def area(self) -> float:
        """Width times height; 0 for corners in the wrong order."""
        return max(self.x2 - self.x1, 0.0) * max(self.y2 - self.y1, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxReading:
    """Contains the boxes of a text, or why there are none, if the text does not say so itself (as `[]` does)."""

    boxes: tuple[Box, ...]
    problem: str | None


def iou(a: Box, b: Box) -> float:
    """Return intersection over union, 0.0 when both boxes say their image and it differs."""
    if a.image is not None and b.image is not None and a.image != b.image:
        return 0.0
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.area + b.area - width * height)


def scale_box(box: Box, *, x: float, y: float) -> Box:
    """Return the box with its corners multiplied."""
    return replace(box, x1=box.x1 * x, y1=box.y1 * y, x2=box.x2 * x, y2=box.y2 * y)


def to_seen(box: Box, image: ImageInfo, *, frame: Frame) -> Box:
    """Return the box in pixels of the image as the model saw it; `frame` says what its numbers are now.

    Raises ValueError when the file's size is needed and not known (see `scale_to_seen`).
    """
    scale = scale_to_seen(image, frame)
    return scale_box(box, x=scale.x, y=scale.y)


def read_boxes(text: str, *, images: Sequence[ImageInfo] = ()) -> BoxReading:
    """Read boxes from JSON (`[x1, y1, x2, y2]`, lists of them, objects with `bbox_2d` and `image`) or from prose.

    JSON may be written as Python writes it, with single quotes and tuples. In prose, as in `image 2: [10, 20, 30, 40]`
    or `<image:after> (10,20),(30,40)`, the image named last before a box counts.
    Images are given by number from 1 or by name; one that does not exist becomes -1, which no expected box has.
    """
    for start in [match.start() for match in _START.finditer(text)][:_TRIES]:
        value = literal_at(text, start)
        if value == []:
            return BoxReading(boxes=(), problem=None)
        found = _from_json(value, images) if value is not None else []
        if found:
            return BoxReading(boxes=tuple(found[:MOST_BOXES]), problem=None)
    found = _from_prose(text, images)
    return BoxReading(boxes=tuple(found[:MOST_BOXES]), problem=None if found else "no box [x1, y1, x2, y2] in the text")


def names_boxes(text: str) -> bool:
    """Return whether a whole text writes objects with boxes, so that nothing else can be meant."""
    value = whole_literal(text)
    entries = value if isinstance(value, list) else [value]
    return bool(entries) and all(isinstance(entry, Mapping) and _of_known_key(entry) is not None for entry in entries)


def _from_json(value: Any, images: Sequence[ImageInfo]) -> list[Box]:
    if isinstance(value, Mapping):
        value = [value] if _named_corners(value) is not None else list(value.values())
        value = value[0] if len(value) == 1 and isinstance(value[0], list) else value
    if not isinstance(value, list):
        return []
    entries = [value] if _corners(value) else value
    return [box for entry in entries if (box := _entry_box(entry, images)) is not None]


def _entry_box(entry: Any, images: Sequence[ImageInfo]) -> Box | None:
    if not isinstance(entry, Mapping):
        corners = _corners(entry)
        return _box(corners) if corners else None
    corners = _named_corners(entry)
    if corners is None:
        return None
    image = next((entry[key] for key in IMAGE_KEYS if entry.get(key) is not None), None)
    label = entry.get("label")
    index = None if image is None else image_index(str(image), images)
    return _box(
        corners,
        image=-1 if image is not None and index is None else index,
        label=label if isinstance(label, str) else None,
    )


def _named_corners(entry: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The corners of an object: a list under a known key, or numbers by name; a size is added to its corner."""
    found = _of_known_key(entry)
    return _by_name(entry) if found is None else found


def _of_known_key(entry: Mapping[str, Any]) -> tuple[float, ...] | None:
    for key in (*BOX_KEYS, *_SIZED_KEYS):
        value = entry.get(key)
        found = _by_name(value) if isinstance(value, Mapping) else _corners(value)
        if found is not None:
            is_size = key in _SIZED_KEYS or any("wh" in str(entry.get(name, "")).lower() for name in _FORMAT_KEYS)
            if key in _HEIGHT_FIRST and not isinstance(value, Mapping):
                found = (found[1], found[0], found[3], found[2])
            return _with_size(found) if is_size else found
    return None


def _by_name(entry: Mapping[str, Any]) -> tuple[float, ...] | None:
    for names in (*_CORNERS, *_SIZED):
        found = _corners([entry.get(name) for name in names])
        if found is not None:
            return _with_size(found) if names in _SIZED else found
    return None


def _with_size(found: tuple[float, ...]) -> tuple[float, ...]:
    x, y, width, height = found
    return (x, y, x + width, y + height)


def _corners(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
        return None
    if not all(abs(number) < 1e9 for number in value):  # also rules out nan and infinity
        return None
    return tuple(float(number) for number in value)


def _from_prose(text: str, images: Sequence[ImageInfo]) -> list[Box]:
    boxes: list[Box] = []
    end, image = 0, None
    for match in _IN_TEXT.finditer(text):
        cited = mentioned_images(text[end : match.start()], images)
        if cited:
            image = next(iter(cited)) if len(cited) == 1 else -1
        boxes.append(_box(tuple(float(group) for group in match.groups() if group is not None), image=image))
        end = match.end()
    return boxes


def _box(corners: Sequence[float], *, image: int | None = None, label: str | None = None) -> Box:
    x1, y1, x2, y2 = corners
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, image=image, label=label)


def matched_ious(predicted: Sequence[Box], expected: Sequence[Box]) -> list[float]:
    """Pair boxes one to one for the largest sum of overlaps, and return the overlaps, the largest first."""
    overlaps = _overlaps(predicted, expected)
    return sorted((overlaps[p][e] for p, e in best_pairs(overlaps)), reverse=True)


def num_matches(predicted: Sequence[Box], expected: Sequence[Box], *, threshold: float) -> int:
    """Return how many boxes can be paired one to one with an overlap of at least `threshold`."""
    hits = [[float(overlap >= threshold) for overlap in row] for row in _overlaps(predicted, expected)]
    return len(best_pairs(hits))


def _overlaps(predicted: Sequence[Box], expected: Sequence[Box]) -> list[list[float]]:
    """The overlap of each predicted box with each expected box; 0 where labels differ."""
    return [[iou(box, target) if _same_label(box, target) else 0.0 for target in expected] for box in predicted]


def _same_label(a: Box, b: Box) -> bool:
    if b.label is None:
        return True
    return a.label is not None and a.label.casefold().strip() == b.label.casefold().strip()
