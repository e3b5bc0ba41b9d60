"""Rows of the plainest shape, which most tables consist of, read without the search for all that a row may mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import ANSWERS, QUESTIONS
from triptych_data.formats.input_names import is_free_name
from triptych_data.formats.media import media_file
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.record import NoMarkers, Record

_MARKER = "<image>"
_KNOWN = {**dict.fromkeys(QUESTIONS, "question"), **dict.fromkeys(ANSWERS, "answer"), "images": "images", "id": "id"}


def plain_record(row: Mapping[str, Any], *, no_markers: NoMarkers) -> Record | None:
    """Return the record of a row that has one question, a list of image paths, and at most one answer, all of them
    plain text.

    None for every other row, and for every row that might be refused: `read_row` reads these. It gives the same record.
    """
    question = answer = None
    images: list[Any] = []
    extras: dict[str, Any] = {}
    for name, value in row.items():
        meaning = _KNOWN.get(name)
        if meaning == "question" and question is None and _is_question(value):
            question = value
        elif meaning == "images" and type(value) is list and all(map(_is_path, value)):
            images = value
        elif meaning == "answer" and answer is None and type(value) is str and _is_said(value):
            answer = extras[name] = value
        elif meaning is None and is_free_name(name) and _says_little(value):
            extras[name] = value
        elif meaning != "id":
            return None
    if question is None:
        return None
    return Record(
        messages=[{"role": "user", "content": question}],
        images=list(images),
        names=[None] * len(images),
        answer=answer,
        extras=extras,
        no_markers=no_markers if images else "first",
        reply=answer,
    )


def _is_question(value: Any) -> bool:
    """Whether a value is a text of several words that writes no list, no mapping, and no mark other than `<image>`."""
    return (
        type(value) is str
        and value.count("<") == value.count(_MARKER)
        and _is_said(value)
        and not value.lstrip().startswith("USER:")
        and len(value.split(maxsplit=1)) == 2
    )


def _is_said(text: str) -> bool:
    """Whether a text says something and writes no list and no mapping."""
    return text.lstrip()[:1] not in ("", "[", "{")


def _is_path(image: Any) -> bool:
    return type(image) is str and media_file(image) is None


def _says_little(value: Any) -> bool:
    """Whether a value is a number, true, false, nothing, or a text that is no file and writes no list."""
    if type(value) is str:
        return (not value or _is_said(value)) and not is_image_file(value) and media_file(value) is None
    return value is None or type(value) in (bool, int, float)
