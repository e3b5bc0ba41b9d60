"""What is no row, or a row that fits no format, is refused with a remedy that works on it."""

from __future__ import annotations

import json

import datasets
import pytest
from PIL import Image
from triptych_data import DataError, read_examples

ROW = {"problem": "Colour?", "answer": "red"}
FILES = {
    "rows.csv": ("problem,answer\nColour?,red\n", r"expected JSON lines, .*, got \.csv; convert the table, .*to_json"),
    "rows.arrow": ("ARROW1", r"got a file of Arrow; name the folder that save_to_disk wrote, or write the rows as"),
    "rows.bz2": ("BZh91AY", "the file is compressed; unpack it first"),
    "filename.jsonl": (
        json.dumps({**ROW, "image": {"data": "x", "filename": "a.png"}}),
        r"image 1 to have the keys .*, got 'data', which is not read; write the image as a path, an address or a data:",
    ),
    "printed.jsonl": (json.dumps({**ROW, "image": "['a.p' 'ng']"}), r"\['a.p' 'ng'\]: no such file"),
    "splits.json": (json.dumps({"train": [ROW]}), r"got lists of rows under train; write the rows of one list into"),
    "columns.json": (
        json.dumps({"problem": ["A?", "B?"], "answer": ["a", "b"]}),
        r"got columns of 2 values each; write",
    ),
    "null.jsonl": (
        json.dumps({**ROW, "problem": None}),
        r"expected a prompt in the column problem, got nothing; write it",
    ),
    "nan.jsonl": (json.dumps({**ROW, "answer": float("nan")}), r"expected an answer, got the number nan; write null"),
    "parts.jsonl": (
        json.dumps({"contents": [{"parts": []}]}),
        r"got contents; rename .*, or write the row as \{\"messages",
    ),
    "source.jsonl": (
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]},
                    {"role": "assistant", "content": "red"},
                ]
            }
        ),
        r"got 'source', which is not read; write the image as a path, an address or a data:",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_no_rows_names_what_to_write(name, tmp_path):
    text, message = FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_examples(tmp_path / name))


@pytest.mark.parametrize("rows", [ROW, [ROW, ROW]], ids=["one", "several"])
def test_rows_in_memory_are_a_dataset_first(rows):
    with pytest.raises(DataError, match=r"got rows as they are; pass datasets\.Dataset\.from_list\(rows\)"):
        read_examples(rows)
    assert read_examples(datasets.Dataset.from_list([ROW]))[0].answer == "red"


def test_a_class_label_is_the_name_of_its_class():
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "problem": datasets.Value("string"),
            "answer": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    columns = {"image": [Image.new("RGB", (8, 8))] * 2, "problem": ["Which?"] * 2, "answer": [1, None]}
    assert [row.answer for row in read_examples(datasets.Dataset.from_dict(columns, features=features))] == [
        "dog",
        None,
    ]
