"""Answers inside other columns: `reward_model.ground_truth` as verl has it, and what its siblings put elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from triptych_data.formats.columns import ANSWERS, LABELS, is_empty, listed_text
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.record import RowError, shown

TRUTHS = ("reward_model", "reward_spec")
"""Columns whose `ground_truth` is the answer: those of verl and of SkyRL."""
FURTHER = ("extra_info", "reward_model", "reward_spec", "reward_kwargs")
"""Columns that may contain an answer, where the row has none elsewhere."""
_TEXTS = ("text", "value")
_BESIDE = ("aliases", "normalized_aliases", "answer_start")
_NAMES = tuple(name for name in (*ANSWERS, *LABELS) if name not in ("response", "completion", "label", "target"))


def ground_truths(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `reward_model.ground_truth` and its like, by their names."""
    found = {}
    for name, value in _mappings(row, TRUTHS):
        if not is_empty(truth := value.get("ground_truth")):
            found[f"{name}.ground_truth"] = stated_answer(truth, what=f"{name}.ground_truth")
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


def only_answer(value: Any) -> Any:
    """Return what a mapping says that has one key, whose name says that it is the answer: `{"target": ["Paris"]}`.

    Every other value is returned as it is: an object with several keys is an answer of its own.
    """
    if not isinstance(value, Mapping) or not set(value) <= {*ANSWERS, *LABELS, *_TEXTS}:
        return value
    given = [item for item in value.values() if not is_empty(item)]
    if not given:
        return None
    return given[0] if len(given) == 1 and is_said(given[0]) else value


def stated_answer(value: Any, *, what: str) -> Any:
    """Return `only_answer` of a value; raise RowError for the forms of TriviaQA and SQuAD, whose texts lie next to what
    no completion says.
    """
    beside = [key for key in _BESIDE if key in value] if isinstance(value, Mapping) else []
    if not beside:
        return only_answer(value)
    given = [value[key] for key in (*_TEXTS, "aliases") if not is_empty(value.get(key))]
    texts = [str(text) for item in given for text in (item if isinstance(item, (list, tuple)) else [item])]
    raise RowError(
        f"expected an answer in {what}, got a mapping with {beside[0]}",
        remedy=f"write the accepted texts as a list, {shown(list(dict.fromkeys(texts)))}, or call the column "
        "reward_answer where only rewards need it",
    )
