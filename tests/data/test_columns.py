"""Other names for one thing, in every format, and what rewards get of a row."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import datasets
import pytest
from PIL import Image
from triptych_data import DataError, Example, read_examples
from triptych_data.formats.answers import read_answer
from triptych_data.formats.columns import Columns
from triptych_data.formats.record import RowError

HUMAN, GPT = {"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "red"}
SYSTEM = {"from": "system", "value": "Be brief."}
USER, ASSISTANT = {"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "red"}
TALK = {"conversations": [HUMAN, GPT]}
ASK = {"problem": "Colour?", "answer": "red"}
PNG = {"path": "0.png"}


def part(**keys: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [keys, {"type": "text", "text": "Colour?"}]}, ASSISTANT]}


def said(example: Example) -> list[list[str | int]]:
    return example.prompt.pieces()


READ: dict[str, tuple[dict[str, Any], list[list[str | int]], str | None]] = {
    "an empty list beside an image": ({**ASK, "images": [], "image": "0.png"}, [[0, "Colour?"]], "red"),
    "the same image under two names": (
        {**ASK, "images": ["0.png"], "image": "0.png", "problem": "<image>Colour?"},
        [[0, "Colour?"]],
        "red",
    ),
    "image and where it came from": (
        {**ASK, "image": PNG, "image_file": "web/0.png", "image_id": "0.png"},
        [[0, "Colour?"]],
        "red",
    ),
    "a path that leads elsewhere": ({**ASK, "image": "0.png", "path": "train/geometry"}, [[0, "Colour?"]], "red"),
    "img": ({**ASK, "img": "0.png"}, [[0, "Colour?"]], "red"),
    "image_path": ({**ASK, "image_path": ["0.png", "1.jpg"]}, [[0, 1, "Colour?"]], "red"),
    "images as text": ({**ASK, "image": "['0.png', '1.jpg']"}, [[0, 1, "Colour?"]], "red"),
    "system in every format": ({**ASK, "system": "Be brief."}, [["Be brief."], ["Colour?"]], "red"),
    "system beside VLM-R1": ({**TALK, "image": "0.png", "system": "Be brief."}, [["Be brief."], [0, "Colour?"]], "red"),
    "system beside OpenAI": (
        {**part(type="image_url", image_url={"url": "0.png"}), "system": "Be brief."},
        [["Be brief."], [0, "Colour?"]],
        "red",
    ),
    "one human and a system column": (
        {"image": "0.png", "system": "Be brief.", "conversations": [HUMAN]},
        [["Be brief."], [0, "Colour?"]],
        None,
    ),
    "system, human, gpt": (
        {"image": "0.png", "conversations": [SYSTEM, {"from": "human", "value": "<image> Colour?"}, GPT]},
        [["Be brief."], [0, " Colour?"]],
        "red",
    ),
    "an answer beside a conversation without": (
        {"conversations": [SYSTEM, HUMAN], "answer": "red"},
        [["Be brief."], ["Colour?"]],
        "red",
    ),
    "the same answer twice": ({**ASK, "solution": "<answer>red</answer>"}, [["Colour?"]], "red"),
    "the same system twice": (
        {"conversations": [SYSTEM, HUMAN, GPT], "system": "Be brief."},
        [["Be brief."], ["Colour?"]],
        "red",
    ),
    "a number for an answer": ({"conversations": [HUMAN, {"from": "gpt", "value": 7}]}, [["Colour?"]], "7"),
    "boxes for an answer": (
        {"conversations": [HUMAN, {"from": "gpt", "value": [1, 2, 3, 4]}]},
        [["Colour?"]],
        "[1, 2, 3, 4]",
    ),
    "options in the question": (
        {**ASK, "problem": "(A) red (B) blue", "options": ["A. red", "B. blue"]},
        [["(A) red (B) blue"]],
        "red",
    ),
    "options with letters": (
        {**ASK, "options": {"A": "red", "B": "blue"}},
        [["Colour?\nOptions:\nA. red\nB. blue"]],
        "red",
    ),
    "the question in the prompt": (
        {"prompt": "Colour? (A) red", "question": "Colour?", "choices": ["red"], "answer": "(A)"},
        [["Colour? (A) red"]],
        "(A)",
    ),
    "roles in other letters": (
        {"messages": [{"role": "User", "content": "Colour?"}, {"role": "tool-response", "content": "9"}, ASSISTANT]},
        [["Colour?"], ["9"]],
        "red",
    ),
    "keys that say nothing of the input": (
        {"messages": [{**USER, "loss": None, "weight": 1}, ASSISTANT]},
        [["Colour?"]],
        "red",
    ),
    "no tools, no videos": (
        {**ASK, "tools": [], "videos": [[]], "audio": False, "audios": [None]},
        [["Colour?"]],
        "red",
    ),
    "a literal marker": ({**ASK, "problem": r"What does \<image> mean?"}, [["What does <image> mean?"]], "red"),
    "a literal video tag": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "<video>?"}]}, ASSISTANT]},
        [["<video>?"]],
        "red",
    ),
    "objects as text": (
        {
            "messages": [{"role": "user", "content": "<ref-object>?"}, ASSISTANT],
            "objects": "{'ref': ['the cat'], 'bbox': []}",
        },
        [["the cat?"]],
        "red",
    ),
    "options with their letters in a list of their own": (
        {**ASK, "choices": {"label": ["A", "B"], "text": ["red", "blue"]}},
        [["Colour?\nOptions:\nA. red\nB. blue"]],
        "red",
    ),
    "the same conversation as verl wrote it": (
        {"prompt": [USER], "raw_prompt": [USER], "reward_model": {"ground_truth": "red"}},
        [["Colour?"]],
        "red",
    ),
    "two names for who speaks and what is said": (
        {
            "conversations": [
                {**USER, "from": "human", "value": "Colour?"},
                {**ASSISTANT, "from": "gpt", "value": "red"},
            ]
        },
        [["Colour?"]],
        "red",
    ),
    "an answer that is an option's number": (
        {"problem": "1, 2 or 3?", "options": ["1", "2", "3"], "answer": 2},
        [["1, 2 or 3?"]],
        "2",
    ),
    "parts that count": (
        {
            "prompt": [
                {"role": "user", "content": [{"type": "text", "text": "?", "index": 0}, {"type": "image", "index": 1}]}
            ],
            "image": "0.png",
            "answer": "red",
        },
        [["?", 0]],
        "red",
    ),
    "a label beside an answer": ({**ASK, "label": 1}, [["Colour?"]], "red"),
    "labels that differ": ({"problem": "Colour?", "label": 1, "target": "red"}, [["Colour?"]], None),
    "a label that is a mask": ({"problem": "Colour?", "label": "mask.png"}, [["Colour?"]], None),
    "accepted answers": ({"problem": "Colour?", "answers": ["red", "scarlet"]}, [["Colour?"]], '["red", "scarlet"]'),
    **{name: ({"problem": "Colour?", name: "red"}, [["Colour?"]], "red") for name in ("gt", "label", "target")},
    "an image alone": ({"problem": "", "image": "0.png", "answer": "red"}, [[0]], "red"),
    "message is a common word": ({**ASK, "message": "hello"}, [["Colour?"]], "red"),
}


@pytest.mark.parametrize("name", READ)
def test_a_row_of_other_names_is_read_whole(write_jsonl, pictures, name):
    row, pieces, answer = READ[name]
    example = read_examples(write_jsonl([row]))[0]
    assert (said(example), example.answer) == (pieces, answer)


def test_columns_for_rewards_keep_their_names_and_values(write_jsonl):
    row = {**ASK, "answer": ["12", "twelve"], "prompts": "v", "source": "web", "example_id": 5, "id": 7, "level": [1]}
    example = read_examples(write_jsonl([row]))[0]
    assert example.columns == row
    assert example.extras == {name: row[name] for name in row if name not in ("problem", "id")}
    assert example.answer == '["12", "twelve"]'


def test_pixels_that_nobody_reads_are_refused_whatever_the_column_is_called():
    table = datasets.Dataset.from_list([{**ASK, "image": Image.new("RGB", (9, 9)), "what": Image.new("RGB", (8, 8))}])
    with pytest.raises(DataError, match="in what, which is not read; put it into images"):
        read_examples(table)
    example = read_examples(table.rename_column("what", "reward_what"))[0]
    assert set(example.extras) == {"answer", "reward_what"}
    mask = read_examples(table.rename_column("what", "mask"))[0]
    assert set(mask.extras) == {"answer", "mask"}


def test_limits_count_where_they_are_given(write_jsonl, pictures):
    limits = {"min_pixels": 400, "max_pixels": 4000}
    for row in (
        part(type="image", image="0.png", **limits),
        part(type="image_url", image_url={"url": "0.png", **limits}),
        part(type="image", image=PNG, **limits),
        {**ASK, "image": {"path": "0.png", **limits}},
        {**ASK, "image": "0.png", **limits},
        {**ASK, "image": {"name": "a", "image": "0.png", **limits}},
    ):
        (image,) = read_examples(write_jsonl([row]))[0].images
        assert (image.min_pixels, image.max_pixels, image.resized) == (400, 4000, None)
    sized = part(type="image", image="0.png", resized_height=56, resized_width=84)
    assert read_examples(write_jsonl([sized]))[0].images[0].resized == (56, 84)


def test_an_answer_of_a_table_is_text_or_refused():
    def answer(value: object) -> str | None:
        return read_answer(Columns({"answer": value}), None)

    assert [answer(value) for value in (b"red", Decimal("3.10"), date(2026, 1, 2))] == ["red", "3.10", "2026-01-02"]
    for value in (b"\x89PNG", {"bytes": b"\x89PNG", "path": None}):
        with pytest.raises(RowError, match=r"expected an answer as text, got b'\\x89PNG'; write the answer as text"):
            answer(value)
