"""Rows with the question as one text: R1-V, Visual-RFT, Video-R1's images, MMK12, ViRL39K, ms-swift's query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import QUESTIONS, is_empty
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape: `problem`, `question` or `query`, and its images in any column."""
    return any(not is_empty(row.get(name)) or row.get(name) == "" for name in QUESTIONS)


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, in order."""
    return read_row(row, no_markers="first")
