"""Answers inside other columns: `reward_model.ground_truth` as verl has it, and what its siblings put elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from triptych_data.formats.columns import ANSWERS, LABELS, is_empty, listed_text
from triptych_data.formats.pictures import is_image_file

TRUTHS = ("reward_model", "reward_spec")
"""Columns whose `ground_truth` is the answer: those of verl and of SkyRL."""
FURTHER = ("extra_info", "reward_model", "reward_spec", "reward_kwargs")
"""Columns that may contain an answer, where the row has none elsewhere."""
_NAMES = tuple(name for name in (*ANSWERS, *LABELS) if name not in ("response", "completion", "label", "target"))


def ground_truths(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `reward_model.ground_truth` and its like, by their names."""
    found = {}
    for name, value in _mappings(row, TRUTHS):
        if not is_empty(truth := value.get("ground_truth")):
            found[f"{name}.ground_truth"] = _only(truth)
    return found


def further_answers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be an answer inside other columns, by its name: `extra_info.answer`."""
    return {
        f"{name}.{key}": value[key]
        for name, value in _mappings(row, FURTHER)
        for key in _NAMES
        if is_said(value.get(key))
    }


def is_said(value: Any) -> bool:
    """Return whether a completion could say a value: a text that names no image file, a number, or a list of these."""
    if isinstance(value, (list, tuple)):
        return bool(value) and not any(isinstance(item, (list, tuple)) for item in value) and all(map(is_said, value))
    if isinstance(value, str):
        return bool(value) and not is_image_file(value)
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _mappings(row: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in names:
        value = listed_text(row.get(name))
        if isinstance(value, Mapping):
            yield name, value


def _only(truth: Any) -> Any:
    """What a mapping says that names nothing but an answer: `{"target": ["Paris"]}`, as Search-R1 has it."""
    if isinstance(truth, Mapping):
        known = [key for key in truth if not is_empty(truth[key])]
        if len(known) == 1 and known[0] in (*ANSWERS, *LABELS) and is_said(truth[known[0]]):
            return truth[known[0]]
    return truth
