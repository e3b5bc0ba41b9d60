"""The reference answer of a row: from one of its columns, or the last turn of its assistant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import ANSWERS, LABELS, Columns, is_empty, listed_text
from triptych_data.formats.parts import text_of_part
from triptych_data.formats.record import RowError, as_answer
from triptych_data.formats.truths import further_answers, ground_truths, is_said, only_answer, stated_answer
from triptych_data.formats.turns import CALLS, Turn, is_turns, read_turns


def split_answer(turns: list[Turn], *, what: str) -> tuple[list[Turn], str | None]:
    """Split turns into (prompt, answer): the last turn by the assistant is the answer and leaves the prompt."""
    if turns[-1]["role"] != "assistant":
        return turns, None
    content = turns[-1]["content"]
    if CALLS in turns[-1]:
        raise RowError(
            f"expected the answer in {what}[{len(turns) - 1}] to be text, got {CALLS}",
            remedy=f"write the answer as text, or remove {CALLS} there",
        )
    if isinstance(content, (list, tuple)) and content and all(isinstance(part, (str, Mapping)) for part in content):
        return turns[:-1], _text_of(content, what=f"{what}[{len(turns) - 1}]")
    return turns[:-1], as_answer(content)


def read_answer(columns: Columns, turn: str | None) -> str | None:
    """Return the answer as text; raise RowError if two columns, or a column and the turn, give answers that do not
    agree.

    They agree where they are equal or one is inside the other as a word or number of its own, as in a solution that
    ends in the answer; of two that agree, `answer` goes before `solution` and so on, and every column before the turn.
    """
    given = {name: _answer_text(name, value) for name, value in columns.given(ANSWERS).items()}
    given |= {name: as_answer(value) or "" for name, value in ground_truths(columns.row).items()}
    if turn:
        given["the assistant's last turn"] = turn
    if not given:
        given = _labels(columns.row) or _further(columns.row)
    columns.read.difference_update(ANSWERS)  # rewards see them under their own names too
    first = next(iter(given), "")
    for name, text in given.items():
        if name != first and not _agree(given[first], text):
            raise RowError(
                f"expected one answer, got different ones in {first} and {name}",
                remedy=f"remove {name}" if " " in name else f"remove {name}, or call it reward_{name}",
            )
    return next(iter(given.values()), turn)


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts, numbers or lists of them in columns that may be answers, if they agree; nothing where they do not."""
    said = {name: only_answer(row.get(name)) for name in LABELS}
    found = {name: as_answer(value) or "" for name, value in said.items() if is_said(value)}
    return found if len(set(found.values())) == 1 else {}


def _further(row: Mapping[str, Any]) -> dict[str, str]:
    """Answers inside other columns, if they agree: the shortest, of which the others are solutions."""
    found = {name: as_answer(value) or "" for name, value in further_answers(row).items()}
    shortest = min(found, key=lambda name: len(found[name]), default="")
    if not all(_agree(found[shortest], text) for text in found.values()):
        return {}
    return {shortest: found[shortest]} if found else {}


def read_reply(columns: Columns, turn: str | None) -> str | None:
    """Return what the assistant says: its last turn, or else the longest of the answers in columns, which contain each
    other.

    A list of texts and a `completion` of several messages are no single reply: None.
    """
    if turn is not None:
        return turn
    texts = []
    for name in ANSWERS:
        value = listed_text(columns.row.get(name))
        several = isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value)
        messages = name == "completion" and is_turns(value)
        if not is_empty(columns.row.get(name)) and not several and not (messages and len(value) != 1):  # type: ignore[arg-type]
            texts.append(_answer_text(name, columns.row[name]))
    return max(texts, key=len, default=None)


def _answer_text(name: str, value: Any) -> str:
    if name == "completion" and is_turns(value):
        return _text_of(read_turns(value, what=name)[-1]["content"], what=name)
    return as_answer(stated_answer(value, what=name)) or ""


def _agree(first: str, second: str) -> bool:
    first, second = sorted((first.strip().casefold(), second.strip().casefold()), key=len)
    before = r"(?<![a-z0-9])(?<![0-9][.,])(?<!-)" if first[:1].isascii() and first[:1].isalnum() else ""
    behind = r"(?![a-z0-9])(?![.,][0-9])" if first[-1:].isascii() and first[-1:].isalnum() else ""
    return re.search(f"{before}{re.escape(first)}{behind}", second) is not None


def _text_of(content: Any, *, what: str) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if isinstance(part, Mapping) and not isinstance(part.get("text"), str):
            raise RowError(
                f"expected the answer in {what} to be text, got a part of type {part.get('type')!r}",
                remedy="write the answer as text",
            )
    places = (f"{what}.content[{number}]" for number in range(len(content)))
    return "".join(
        part if isinstance(part, str) else text_of_part(part, place)
        for part, place in zip(content, places, strict=True)
    )
