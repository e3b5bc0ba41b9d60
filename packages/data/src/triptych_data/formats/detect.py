"""Recognising a row's format by its columns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from triptych_data.errors import UsageError
from triptych_data.formats import openai, question, sharegpt, swift, trl, verl, vlm_r1
from triptych_data.formats.record import Record, RowError

FORMATS: dict[str, Callable[[Mapping[str, Any]], Record]] = {
    "vlm_r1": vlm_r1.read,
    "sharegpt": sharegpt.read,
    "swift": swift.read,
    "trl": trl.read,
    "verl": verl.read,
    "openai": openai.read,
    "question": question.read,
}
# From the most to the least particular: the first that matches is meant.
_TESTS = (
    ("swift", swift.matches),
    ("openai", openai.matches),
    ("vlm_r1", vlm_r1.matches),
    ("sharegpt", sharegpt.matches),
    ("verl", verl.matches),
    ("trl", trl.matches),
    ("question", question.matches),
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


def check_format(name: str) -> None:
    """UsageError, with the nearest name, where a format is neither "auto" nor one of ours."""
    if name == "auto" or name in FORMATS:
        return
    near = difflib.get_close_matches(name, FORMATS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"expected format to be auto or one of {', '.join(FORMATS)}, got {name!r}{hint}")
