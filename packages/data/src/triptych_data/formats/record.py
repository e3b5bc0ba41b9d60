"""What every format is reduced to before markers are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Literal

from triptych_parser import Refusal

NoMarkers = Literal["error", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Contains one row: messages by role, images in the order of the record, and what is left over for rewards."""

    messages: Sequence[Mapping[str, Any]]
    images: Sequence[Any]
    names: Sequence[str | None]
    answer: str | None
    extras: Mapping[str, Any] = field(default_factory=dict)
    no_markers: NoMarkers = "error"
    reply: str | None = None
    """The text that the assistant says after the messages: its own last turn, else the longest answer of the row."""
    is_literal: bool = False
    """Whether nothing in the texts is a marker, because the row belongs to data without images."""


class RowError(Refusal, ValueError):
    """Says that a row does not have the shape of its format: what was expected, what came, and what to do.

    `in_file` is a further remedy, for rows of files alone.
    """

    def __init__(self, reason: str, *, remedy: str, in_file: str = "") -> None:
        super().__init__(f"{reason}; {remedy}{in_file}")
        self.reason = reason
        self.remedy = remedy
        self.in_file = in_file


def as_answer(value: object) -> str | None:
    """Return a reference answer as text, with numbers and lists as JSON writes them; raise RowError for a number that
    is not finite.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (Decimal, date, time, timedelta)):
        return str(value)
    if isinstance(value, bytes):
        return _text_of(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"expected an answer, got the number {value}", remedy="write null where the row has none")
    try:
        return json.dumps(value, ensure_ascii=False, default=_text_of, allow_nan=False)
    except ValueError as error:
        if isinstance(error, RowError):
            raise
        raise RowError(
            f"expected finite numbers in an answer, got {shown(value)}", remedy="leave out what is no number"
        ) from None


def _text_of(value: object) -> str:
    """What JSON cannot write, as text; RowError for what no completion can say, such as an image."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise RowError(
            f"expected an answer as text, got {shown(value)}",
            remedy="write the answer as text, or call the column reward_answer where only rewards need it",
        ) from None


def require_text(value: object, *, what: str) -> str:
    """Return `value` if it is a string; raise RowError otherwise."""
    if not isinstance(value, str):
        raise RowError(f"expected {what} to be text, got {type(value).__name__}", remedy="correct the row")
    return value


def shown(value: object, *, limit: int = 60) -> str:
    """Return a value as a message shows it: its `repr`, which is cut if it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
