"""What every format is reduced to before markers are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from triptych_parser import Refusal

NoMarkers = Literal["error", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row: messages as they stood, images in record order, and what is left over for rewards."""

    messages: Sequence[Mapping[str, Any]]
    images: Sequence[Any]
    names: Sequence[str | None]
    answer: str | None
    extras: Mapping[str, Any] = field(default_factory=dict)
    no_markers: NoMarkers = "error"


class RowError(Refusal, ValueError):
    """A row that does not have the shape of its format: what was expected and got, and what to do."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def listed(value: object) -> tuple[list[Any], list[str | None]]:
    """(images, names) of an image column: one image, a list of them, a name -> image mapping, or nothing."""
    if value is None:
        return [], []
    if isinstance(value, Mapping) and not _is_one_image(value):
        return list(value.values()), [str(name) for name in value]
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    images: list[Any] = []
    names: list[str | None] = []
    for item in items:
        if isinstance(item, Mapping) and "name" in item and "image" in item:
            images.append(item["image"])
            names.append(str(item["name"]))
        else:
            images.append(item)
            names.append(None)
    return images, names


_IMAGE_KEYS = {"bytes", "path", "image", "url", "min_pixels", "max_pixels"}


def _is_one_image(value: Mapping[str, Any]) -> bool:
    return ("name" in value and "image" in value) or set(value) <= _IMAGE_KEYS


def as_answer(value: object) -> str | None:
    """A reference answer as text; numbers and lists as JSON writes them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def without(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """The columns that are left for rewards."""
    return {name: value for name, value in row.items() if name not in used}


def require_text(value: object, *, what: str) -> str:
    """`value` if it is a string; RowError otherwise."""
    if not isinstance(value, str):
        raise RowError(f"expected {what} to be text, got {type(value).__name__}", remedy="correct the row")
    return value


def require_turns(value: object, *, what: str) -> list[Mapping[str, Any]]:
    """`value` if it is a non-empty list of mappings; RowError otherwise."""
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(turn, Mapping) for turn in value):
        raise RowError(f"expected {what} to be a list of messages, got {_shown(value)}", remedy="correct the row")
    return list(value)


def _shown(value: object) -> str:
    return "an empty list" if value == [] else type(value).__name__


def split_answer(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str | None]:
    """(prompt, answer): the last assistant turn is the reference answer and leaves the prompt."""
    if messages and messages[-1].get("role") == "assistant":
        return list(messages[:-1]), plain_text(messages[-1].get("content"))
    return list(messages), None


def plain_text(content: object) -> str:
    """The text of a message's content, whether a string or parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    raise RowError(
        f"expected message content to be text or parts, got {type(content).__name__}", remedy="correct the row"
    )
