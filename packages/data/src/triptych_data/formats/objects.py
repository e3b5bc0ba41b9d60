"""The column `objects` of ms-swift: what `<ref-object>` and `<bbox>` in a message represent, in order.

Keys: `ref` (texts), `bbox` (boxes or points), `bbox_type` ("real" or "norm1"), `image_id` (the image of each box,
from 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_data.formats.columns import is_empty, listed_text
from triptych_data.formats.record import RowError, shown
from triptych_data.formats.turns import Turn

_REF, _BOX = "<ref-object>", "<bbox>"
_FRAMES = ("real", "norm1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Contains the entries of a row, each used once: names, and boxes with what the answer says before them."""

    refs: Iterator[Any]
    boxes: Iterator[tuple[Sequence[Any], str]]


def is_objects(value: object) -> bool:
    """Return whether a value is ms-swift's mapping, or text that writes one."""
    value = listed_text(value)
    return (
        value is not None
        and isinstance(value, Mapping)
        and any(not is_empty(value.get(name)) for name in ("ref", "bbox"))
    )


def read_objects(value: object, *, num_images: int) -> dict[str, Any]:
    """Return the mapping with lists of one length; raise RowError if a box has no image or a wrong one."""
    found = listed_text(value)
    assert isinstance(found, Mapping)
    refs, boxes = found.get("ref") or [], found.get("bbox") or []
    owners = found.get("image_id")
    for name, entries in (("ref", refs), ("bbox", boxes), ("image_id", owners or [])):
        if not isinstance(entries, (list, tuple)):
            raise RowError(f"expected objects.{name} to be a list, got {shown(entries)}", remedy="correct the row")
    for ref in refs:
        if not isinstance(ref, (str, int, float)):
            raise RowError(f"expected objects.ref to contain texts, got {shown(ref)}", remedy="correct the row")
    for box in boxes:
        if not isinstance(box, (list, tuple)) or not all(type(value) in (int, float) for value in box):
            raise RowError(
                f"expected objects.bbox to contain boxes, each a list of numbers, got {shown(box)}",
                remedy="write it as [[x1, y1, x2, y2], ...], also where there is only one box",
            )
    if found.get("bbox_type") not in (None, *_FRAMES):
        raise RowError(
            f"expected objects.bbox_type to be one of {', '.join(_FRAMES)}, got {shown(found['bbox_type'])}",
            remedy="give the boxes in pixels of the file, and leave bbox_type out",
        )
    if owners and len(owners) != len(boxes):
        raise RowError(
            f"expected objects.image_id to have {len(boxes)} entries, one for each box, got {len(owners)}",
            remedy="complete it, or remove it where all boxes are in the first image",
        )
    for owner in owners or []:
        if not isinstance(owner, int) or not 0 <= owner < num_images:
            raise RowError(
                f"expected objects.image_id to be from 0 to {num_images - 1}, got {shown(owner)}",
                remedy="count the images of the row from 0",
            )
    return {**found, "ref": list(refs), "bbox": list(boxes), "image_id": list(owners) if owners else None}


def refuse_marks_of_objects(turns: Sequence[Turn]) -> None:
    """Raise RowError if a message of a row without objects has a place for them."""
    for number, turn in enumerate(turns, start=1):
        for mark, name in ((_REF, "ref"), (_BOX, "bbox")):
            if isinstance(turn["content"], str) and mark in turn["content"]:
                raise RowError(
                    f"expected the column objects for {mark} in message {number}, got none",
                    remedy=f'give it as {{"{name}": [...]}}, write what {mark} means in its place, or, for the '
                    'literal text, write the content as parts: [{"type": "text", "text": ...}]',
                )


def fill(
    turns: Sequence[Turn], answer: str | None, objects: Mapping[str, Any], *, num_images: int
) -> tuple[list[Turn], str | None]:
    """Return (turns, answer) with names and boxes written in; in the answer a box names its image, if there is an
    `image_id`.
    """
    owners = objects["image_id"] if num_images > 1 else None
    places = [""] * len(objects["bbox"]) if owners is None else [f"image {owner + 1}: " for owner in owners]
    entries = Objects(refs=iter(objects["ref"]), boxes=iter(zip(objects["bbox"], places, strict=True)))
    filled = [{**turn, "content": _content(turn["content"], entries)} for turn in turns]
    text = None if answer is None else _text(answer, entries, answer=True)
    _check_used(entries, objects)
    return filled, text


def _content(content: Any, entries: Objects) -> Any:
    if isinstance(content, str):
        return _text(content, entries, answer=False)
    if isinstance(content, list):
        return [
            {**part, "text": _text(part["text"], entries, answer=False)} if part["type"] == "text" else part
            for part in content
        ]
    return content


def _text(content: str, entries: Objects, *, answer: bool) -> str:
    pieces: list[str] = []
    while True:
        found = min((at for at in (content.find(_REF), content.find(_BOX)) if at >= 0), default=-1)
        if found < 0:
            return "".join((*pieces, content))
        mark = _REF if content.startswith(_REF, found) else _BOX
        entry: Any = next(entries.refs if mark == _REF else entries.boxes, None)
        if entry is None:
            raise RowError(
                f"expected an entry of objects for every {mark}, got fewer", remedy="complete objects or remove it"
            )
        pieces += [content[:found], str(entry) if mark == _REF else _box(entry, answer)]
        content = content[found + len(mark) :]


def _box(entry: tuple[Sequence[Any], str], answer: bool) -> str:
    box, place = entry
    return (place if answer else "") + "[" + ", ".join(map(_number, box)) + "]"


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_used(entries: Objects, objects: Mapping[str, Any]) -> None:
    """RowError where only some of the names or boxes have a place: the others would be left out unseen."""
    for mark, name, rest in ((_REF, "ref", len(list(entries.refs))), (_BOX, "bbox", len(list(entries.boxes)))):
        if 0 < rest < len(objects[name]):
            raise RowError(
                f"expected {len(objects[name])} {mark} for the entries of objects.{name}, "
                f"got {len(objects[name]) - rest}",
                remedy=f"write {mark} for every entry, or remove the others from objects",
            )
