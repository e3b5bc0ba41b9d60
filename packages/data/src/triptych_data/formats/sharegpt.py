"""LLaMA-Factory sharegpt and Mantis: `conversations`, `conversation` or `messages`, and `images`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import CONVERSATIONS, is_empty
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row
from triptych_data.formats.turns import is_turns


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape."""
    return not row.keys().isdisjoint(CONVERSATIONS) and any(
        not is_empty(row.get(name)) and (name != "message" or is_turns(row[name])) for name in CONVERSATIONS
    )


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; the number of markers over the prompt's turns must equal the number of images."""
    return read_row(row, no_markers="error")
