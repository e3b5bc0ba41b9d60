"""Numbers and characters that Python's JSON reads and nothing behind it can use: refused with their place."""

from __future__ import annotations

import json

import pytest
from triptych_data import DataError, read_examples

LONG = '{"prompt": "x", "level": ' + "9" * 5000 + "}"
HALF = '{"prompt": "x\\ud83d"}'
HALF_KEY = '{"prompt": "x", "\\udc00": 1}'
WHOLE = '{"prompt": "x\\ud83d\\ude00 \\\\ud83d"}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (LONG, "expected numbers of at most 4,300 digits, got a longer one; write it as text"),
        (HALF, "expected whole characters, got half of one"),
        (HALF_KEY, "expected whole characters, got half of one"),
    ],
)
def test_a_row_is_refused_with_its_place_as_a_line_and_as_an_element(tmp_path, row, message):
    good = '{"prompt": "good"}'
    for name, text, place in (
        ("rows.jsonl", f"{good}\n\n{row}\n", "rows.jsonl:3"),
        ("rows.json", f"[{good}, {row}]", "rows.json[1]"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError) as caught:
            list(read_examples(tmp_path / name))
        assert str(caught.value).startswith(f"{tmp_path / place}: {message}")


def test_a_character_of_two_escapes_is_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text(WHOLE)
    example = read_examples(tmp_path / "rows.jsonl")[0]
    assert example.prompt.pieces() == [["x\N{GRINNING FACE} \\ud83d"]]
    assert example.columns == json.loads(WHOLE)
