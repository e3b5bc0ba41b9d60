"""VLM-R1, LLaVA, InternVL, MiniCPM: `image` (a path, a list or a mapping of them) and `conversations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import is_empty
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape."""
    return not is_empty(row.get("conversations")) and is_empty(row.get("images"))


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, in order."""
    return read_row(row, no_markers="first")
