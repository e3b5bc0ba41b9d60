"""Rows of every format with missing, extra and misplaced keys: refused by place and name, or nothing is left out.

Every text, image, film, tool and limit that is drawn is unique, so that each can be looked for in what was read.
`make fuzz` draws for minutes, new rows each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_rows import FREE, rows
from hypothesis import given
from triptych_data import DataError, Example
from triptych_data.formats import FORMATS
from triptych_data.formats.columns import ANSWERS, PIXELS, QUESTIONS
from triptych_data.formats.turns import is_turns
from triptych_data.read_row import row_reader
from triptych_data.rows import SourceRow
from triptych_parser import Text


def words(value: object, kind: str) -> set[str]:
    """The words of one kind that a value holds, however deep."""
    return set(re.findall(rf"\b{kind}\d+w\b", json.dumps(value)))


def numbers(value: object) -> Iterator[int]:
    return (int(found) for found in re.findall(r"\b10000\d\d\b", json.dumps(value)))


def read(row: dict[str, Any], format: str) -> Example | DataError:
    place = SourceRow(values=row, file="rows.jsonl", source="rows.jsonl:3", index=2, folder=Path())
    try:
        return row_reader(format=format)(place)
    except DataError as error:
        return error


def check_refusal(error: DataError, row: dict[str, Any]) -> None:
    message = str(error)
    assert message.startswith("rows.jsonl:3")
    assert message.isprintable()
    assert error.remedy
    keys = set(re.findall(r'"([\w ]+)": ', json.dumps(row)))
    keys |= set(re.findall(r'\\"([\w ]+)\\": ', json.dumps(row))) | {"marker", "message", "image", "prompt"}
    assert any(key in message for key in keys), message


def texts_of(found: Example) -> Iterator[str]:
    """The texts that were written as strings: in parts, text is only text."""
    for turn in found.prompt.prompt.turns:
        if turn.content == "string":
            yield from (segment.text for segment in turn.segments if isinstance(segment, Text))


def check_whole(found: Example, row: dict[str, Any]) -> None:
    """Every word that looks like input is said by the one whose it is, or is an image; the rest goes to rewards."""
    said: dict[str, str] = {}
    for turn, pieces in zip(found.prompt.prompt.turns, found.prompt.pieces(), strict=True):
        texts = " ".join(piece for piece in pieces if isinstance(piece, str))
        said[turn.role] = f"{said.get(turn.role, '')} {texts}"
    images = [str(image.ref) for image in found.images]
    others = {*FREE, *ANSWERS, "reward_model", "objects"} | (set() if is_turns(row.get("message")) else {"message"})
    others |= {"extra_info", "meta"} if images else set()  # a text in there may say where the images were taken from
    if found.images and isinstance(row.get("path"), str) and not row["path"].endswith(".png"):
        others.add("path")  # next to images a text there may be the path of anything
    inputs = {name: value for name, value in row.items() if name not in others}
    asked = words([row[name] for name in QUESTIONS if isinstance(row.get(name), str) and not is_turns(row[name])], "s")
    for kind, role in (("u", "user"), ("s", "system"), ("o", "tool")):
        if (
            kind == "s" and asked
        ):  # the text of a system message was moved into the column of the question: a user asks it
            assert asked <= words(said.get("user"), kind)
            continue
        assert words(inputs, kind) <= words(said.get(role), kind) | words(images, kind)
        assert not words([text for other, text in said.items() if other != role], kind)
    assert words(inputs, "a") <= words([*said.values(), found.answer, images], "a")
    assert words(inputs, "i") <= words(images, "i")
    assert not any(mark in " ".join(texts_of(found)) for mark in ("<video>", "<audio>", "<image 1>"))
    passed = [turn.extra for turn in found.prompt.prompt.turns]
    assert words(inputs, "p") <= words(passed, "p")
    assert not re.search(r"\b20000\d\d\b", json.dumps(inputs))
    assert found.answer is not None or not any(row.get(name) for name in ANSWERS)
    assert not (words(inputs, "m") | words(inputs, "t") | words(inputs, "k")) - words(images, "t")
    if found.images:
        given = [value for image in found.images for value in (image.min_pixels, image.max_pixels, image.resized)]
        own = set(numbers({name: value for name, value in inputs.items() if name not in PIXELS}))
        assert own <= set(numbers(given))
        assert own or set(numbers(inputs)) <= set(numbers(given))  # a row's limits give way to an image's own
    assert set(found.prompt.image_order) == set(range(len(found.images)))
    assert found.columns == row
    for name, value in found.extras.items():
        assert value == row[name]
    assert {name for name in row if name in (*FREE, *ANSWERS)} <= set(found.extras)


@pytest.mark.parametrize("format", ["auto", *FORMATS])
@given(row=rows())
def test_a_row_is_refused_by_name_or_read_whole(format, row):
    found = read(row, format)
    if isinstance(found, DataError):
        check_refusal(found, row)
    else:
        check_whole(found, row)
