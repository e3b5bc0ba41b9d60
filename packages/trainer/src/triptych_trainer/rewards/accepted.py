"""Accepted answers: one text, or a list of which any is right; and whether a method of comparing can meet them."""

import re
from collections.abc import Callable
from typing import Any, Literal

from triptych_trainer.rewards.latex import boxed_answer, plain_text
from triptych_trainer.rewards.literals import whole_literal
from triptych_trainer.rewards.matching import choice_letter, yes_or_no
from triptych_trainer.rewards.numbers import only_number
from triptych_trainer.rewards.row import Row, as_text, expected_answer

__all__ = ["LISTS", "Lists", "accepted_answers"]

Lists = Literal["auto", "any", "whole"]
LISTS: tuple[Lists, ...] = ("auto", "any", "whole")
_NEEDED: dict[str, tuple[Callable[[str], bool], str]] = {
    "numeric": (lambda text: only_number(plain_text(text)) is not None, "one number"),
    "choice": (lambda text: choice_letter(plain_text(text)) is not None, "one option letter"),
    "yes_no": (lambda text: yes_or_no(plain_text(text)) is not None, "yes or no"),
}
"""For methods that read something out of a text: whether they find it in an expected answer, and what it is."""
_TEXT = r"""(?:'[^'\n]*'|"[^"\n]*")"""
_PRINTED = re.compile(rf"(?:array\()?\[\s*{_TEXT}(?:[\s,]*{_TEXT})*\s*\](?:, dtype=\S+\))?")
"""A list of texts as numpy prints it, with or without commas."""
_SET = re.compile(rf"\{{\s*{_TEXT}(?:\s*,\s*{_TEXT})*\s*\}}")


def accepted_answers(row: Row, *, method: str, lists: Lists = "auto") -> tuple[str, ...]:
    r"""Return the answers that a row accepts; of a text with `\boxed{}` what the last one contains.

    Of a text with GSM8K's `####` only what follows it counts.
    Of a list, given as such or as text with quoted items (`["12", "twelve"]`, `('12', 'twelve')`), `any` item is right;
    with `whole` it is one answer, as is every list in `<answer>` tags. `auto` is `any`, but takes a text of numbers
    (`[1, 2, 3]`) as one answer, and refuses a list of four numbers, which may be a box. Raises ValueError, which names
    the sample, where the method can meet none of them, and for lists as numpy prints them.
    """
    expected = expected_answer(row)
    items = None if lists == "whole" else _items(row, expected, lists=lists)
    if items is not None and lists == "auto" and len(items) == 4 and all(map(_is_number, items)):
        raise ValueError(
            f"{row.where}: the answer {expected} may be a box, or a list of four accepted numbers; for a box use the "
            'reward iou or mode="iou", for the list write lists="any" or, if all are asked for, lists="whole"'
        )
    texts = [expected] if items is None else [item if isinstance(item, str) else as_text(item) for item in items]
    boxes = map(boxed_answer, texts)
    answers = [text.rpartition("####")[2] if boxed is None else boxed for text, boxed in zip(texts, boxes, strict=True)]
    kept = tuple(dict.fromkeys(answer for answer in answers if answer.strip()))
    if not kept:
        raise ValueError(
            f"{row.where}: the answer {expected} contains no text that a completion could meet; "
            "write the answer into the record, or drop the row"
        )
    can_meet, needed = _NEEDED.get(method, (bool, "text"))
    if not any(can_meet(answer) for answer in kept):
        raise ValueError(
            f"{row.where}: the answer {expected!r} does not contain {needed}, which the method {method!r} compares; "
            "correct it, or choose another mode"
        )
    return kept


def _items(row: Row, expected: str, *, lists: Lists) -> list[Any] | None:
    """Return the items of a list of plain values, None where the answer is one text."""
    value = row.answer_list
    if value is None and "<answer>" not in (row.answer or ""):
        value = _written(expected, lists=lists)
        if value is None and (_PRINTED.fullmatch(expected) or _SET.fullmatch(expected)):
            raise ValueError(
                f"{row.where}: the answer {expected} is a list as Python prints it, which no completion says; write it "
                'as JSON, ["...", "..."], or set lists="whole" where the answer is that text'
            )
    if not isinstance(value, list | tuple) or any(isinstance(item, list | tuple | dict) for item in value):
        if isinstance(value, list | tuple) and lists == "auto" and _is_of_texts(value):
            raise ValueError(
                f"{row.where}: the answer {expected} has lists of texts in a list, which no completion says; write the "
                'accepted texts as one list, ["...", "..."], or set lists="whole" where the answer is that text'
            )
        return None
    return [item for item in value if item is not None]


def _written(text: str, *, lists: Lists) -> Any:
    """What a text writes, if it is a list; numbers alone are one text (`(3, 4)`), in brackets only with `auto`."""
    value = whole_literal(text) if text.startswith(("[", "(")) else None
    of_numbers = isinstance(value, list) and not any(isinstance(item, str) for item in value)
    return None if of_numbers and (lists == "auto" or text.startswith("(")) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_of_texts(value: Any) -> bool:
    """Whether the innermost items of lists in a list are all texts."""
    return all(map(_is_of_texts, value)) if isinstance(value, list | tuple) else isinstance(value, str)
