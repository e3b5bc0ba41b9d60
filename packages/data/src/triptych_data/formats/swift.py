"""ms-swift: `messages` and `images` with `objects`; images without a marker come first.

`<ref-object>` and `<bbox>` in a message stand for the entries of `objects`, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from triptych_data.formats import sharegpt
from triptych_data.formats.record import Record, RowError

_REF, _BOX = "<ref-object>", "<bbox>"


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape: only `objects` tells it from other `messages` rows."""
    return "messages" in row and isinstance(row.get("objects"), Mapping)


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; boxes stay in `extras["objects"]` in the coordinates of the file."""
    record = sharegpt.read({**row, "objects": row.get("objects")}, columns=sharegpt.OPENAI_COLUMNS)
    objects = row.get("objects")
    messages, answer = record.messages, record.answer
    if isinstance(objects, Mapping):
        refs, boxes = iter(objects.get("ref") or ()), iter(objects.get("bbox") or ())
        messages = [{**turn, "content": _filled(turn["content"], refs, boxes)} for turn in messages]
        answer = None if answer is None else _filled(answer, refs, boxes)
    return replace(record, messages=messages, answer=answer, no_markers="first")


def _filled(content: Any, refs: Iterator[Any], boxes: Iterator[Any]) -> Any:
    if not isinstance(content, str):
        return content
    pieces: list[str] = []
    while True:
        found = min((at for at in (content.find(_REF), content.find(_BOX)) if at >= 0), default=-1)
        if found < 0:
            return "".join((*pieces, content))
        mark = _REF if content.startswith(_REF, found) else _BOX
        entry = next(refs if mark == _REF else boxes, None)
        if entry is None:
            raise RowError(
                f"expected an entry of objects for every {mark}, got fewer", remedy="complete objects or remove it"
            )
        pieces += [content[:found], str(entry) if mark == _REF else _box_text(entry)]
        content = content[found + len(mark) :]


def _box_text(box: Any) -> str:
    return "[" + ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in box) + "]"
