"""Recognising a row's format by its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych_data.formats import openai, sharegpt, swift, trl, verl, vlm_r1
from triptych_data.formats.record import Record, RowError

FORMATS: dict[str, Callable[[Mapping[str, Any]], Record]] = {
    "vlm_r1": vlm_r1.read,
    "sharegpt": sharegpt.read,
    "swift": swift.read,
    "trl": trl.read,
    "verl": verl.read,
    "openai": openai.read,
}
# From the most to the least particular: the first that matches is meant.
_TESTS = (
    ("verl", verl.matches),
    ("trl", trl.matches),
    ("vlm_r1", vlm_r1.matches),
    ("swift", swift.matches),
    ("openai", openai.matches),
    ("sharegpt", sharegpt.matches),
)


def detect(row: Mapping[str, Any]) -> str:
    """The name of the row's format; RowError where its columns fit none."""
    for name, matches in _TESTS:
        if matches(row):
            return name
    raise RowError(
        f"expected the columns of one of {', '.join(FORMATS)}, got {', '.join(map(str, row)) or 'none'}",
        remedy='rename the columns (dataset_info.json) or name the format with format="..."',
    )
