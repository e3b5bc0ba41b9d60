"""TRL conversational: `prompt` as messages (text or content parts) or text, `images` or `image`, further columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import is_empty
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape."""
    return not is_empty(row.get("prompt"))


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, as TRL itself places them."""
    return read_row(row, no_markers="first")
