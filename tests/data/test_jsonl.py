"""Lines and elements of JSON files: what cannot be used of them is refused with its place."""

from __future__ import annotations

import json

import pytest
from triptych_data import DataError, read_examples
from triptych_data.rows.jsonl import parse_row

LONG = '{"prompt": "x", "level": ' + "9" * 5000 + "}"
HALF = '{"prompt": "x\\ud83d"}'
HALF_KEY = '{"prompt": "x", "\\udc00": 1}'
DEEP = '{"prompt": "x", "extra": ' + "[" * 900 + "]" * 900 + "}"
WHOLE = '{"prompt": "x\\ud83d\\ude00 \\\\ud83d"}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (LONG, "expected numbers of at most 4,300 digits, got a longer one; write it as text"),
        (DEEP, "expected lists and objects nested in at most 100 levels, got more; correct or remove the line"),
        (HALF, "expected whole characters, got half of one"),
        (HALF_KEY, "expected whole characters, got half of one"),
        ('{"prompt": "x", "level": -1e400}', "expected numbers up to 1.8e308, got -1e400; write it as text, in quotes"),
        ('{"prompt": "x", "answer": [1, NaN]}', "expected finite numbers in an answer, got [1, nan]; leave out"),
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


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_names_every_element(tmp_path, pictures, indent):
    rows = [{"prompt": "<image>", "images": ["0.png"]}, {"prompt": "x"}, {"prompt": "<image>", "images": ["gone.png"]}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=indent))
    with pytest.raises(DataError, match=r"rows.json\[2\]: image 1 of 1, gone.png"):
        read_examples(path)
    assert [e.source for e in read_examples(path, check_images=False)] == [f"{path}[{index}]" for index in range(3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "x"},\n]', r":2: there is a comma before the closing bracket at column 1"),
        ('[{"prompt": "x"}\n{"prompt": "y"}]', r":2: expected a comma or the closing bracket at column 1"),
        ('[{"prompt": "x"},\n {"prompt" "y"}]', r":2: not valid JSON, expecting ':' delimiter at column 12"),
        (
            '[{"prompt": "x"}]\n[{"prompt": "y"}]\n',
            r":2: expected the file to end with its array, got more at column 1",
        ),
        (
            '[{"prompt": "x"}] and so on',
            r":1: expected the file to end with its array, got more at column 19; give every",
        ),
        ('[{"prompt": "x"}, 5]', r"rows.json\[1\]: expected a JSON object, got a number"),
    ],
)
def test_a_broken_json_array_names_line_and_column(tmp_path, text, message):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "rows.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": 9, \n', "expecting property name enclosed in double quotes at column 10"),
        (b'{"id": 9,\n\n', "at column 10"),
        (b'{"id" 9}\n', "expecting ':' delimiter at column 7"),
        ('\ufeff{"é": "'.encode() + b'\xff"}\n', "got byte 0xff at column 8"),
    ],
)
def test_a_column_is_counted_in_the_characters_of_its_line(line, message):
    with pytest.raises(DataError) as caught:
        parse_row(line, source="a.jsonl:1")
    assert message in str(caught.value)
