"""Recognising a row's format by its columns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from triptych_data.errors import UsageError
from triptych_data.formats import openai, question, sharegpt, swift, trl, verl, vlm_r1
from triptych_data.formats.columns import CONVERSATIONS, QUESTIONS, is_empty
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

_LISTS_OF_ROWS = ("train", "validation", "val", "test", "dev", "data", "rows", "examples", "samples", "annotations")


def detect(row: Mapping[str, Any]) -> str:
    """Return the name of the row's format; raise RowError if its columns fit none."""
    _check_is_one_row(row)
    for name, matches in _TESTS:
        if matches(row):
            return name
    raise _of_no_format(row)


def refuse_no_prompt(row: Mapping[str, Any]) -> None:
    """Raise RowError for a row of a script for TRL, which is of no file, if it fits no format."""
    _check_is_one_row(row)
    if not any(name in row for name in (*QUESTIONS, *CONVERSATIONS)) and not any(matches(row) for _, matches in _TESTS):
        raise RowError(
            f"expected a column prompt, got the columns {', '.join(map(str, row)) or 'none'}",
            remedy="add it, with a text or a list of messages in each row, or rename the column that contains it",
        )


def _of_no_format(row: Mapping[str, Any]) -> RowError:
    """What a row that fits no format probably is, and what makes it one that does."""
    nothing = next((name for name in (*QUESTIONS, *CONVERSATIONS) if name in row and is_empty(row[name])), None)
    if nothing is not None:
        return RowError(f"expected a prompt in the column {nothing}, got nothing", remedy="write it, or remove the row")
    lists = [name for name in _LISTS_OF_ROWS if isinstance(row.get(name), list) and row[name]]
    if lists:
        return RowError(
            f"expected a row, got lists of rows under {', '.join(lists)}",
            remedy="write the rows of one list into a file of their own, as a JSON array or one per line",
        )
    return RowError(
        f"expected the columns of one of {', '.join(FORMATS)}, got {', '.join(map(str, row)) or 'none'}",
        remedy="rename the columns, or write the row as "
        '{"messages": [{"role": "user", "content": "<image> ..."}, {"role": "assistant", "content": "..."}], '
        '"images": [...]}',
        in_file=", or name the columns in dataset_info.json",
    )


def _check_is_one_row(row: Mapping[str, Any]) -> None:
    """RowError where a mapping has columns of many rows."""
    texts = [row[name] for name in QUESTIONS if name in row]
    lengths = {len(value) if isinstance(value, list) else -1 for value in row.values()}
    if len(row) > 1 and len(lengths) == 1 and any(_is_texts(value) for value in texts):
        raise RowError(
            f"expected a row, got columns of {lengths.pop()} values each",
            remedy="write one row per line, with a value in each column",
        )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def check_format(name: str) -> None:
    """Raise UsageError, with the nearest name, if a format is neither "auto" nor one of ours."""
    if name == "auto" or name in FORMATS:
        return
    near = difflib.get_close_matches(name, FORMATS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"expected format to be auto or one of {', '.join(FORMATS)}, got {name!r}{hint}")
