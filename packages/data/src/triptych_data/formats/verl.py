"""verl and EasyR1: `prompt` with `reward_model.ground_truth`, or `problem` with `images` and an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import is_empty, listed_text
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape."""
    if not is_empty(row.get("prompt")):
        return _is_reward_model(row.get("reward_model"))
    return not is_empty(row.get("problem")) and not is_empty(row.get("images"))


def _is_reward_model(value: object) -> bool:
    value = listed_text(value)
    return value is not None and isinstance(value, Mapping) and not is_empty(value)


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; markers and images must agree, as both trainers demand."""
    return read_row(row, no_markers="error")
