"""A row of the plainest shape is read as the general reader reads it, and a row that might be refused is left to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from triptych_data.formats import RowError
from triptych_data.formats.columns import ANSWERS, CONVERSATIONS, IMAGES, LABELS, OPTIONS, PIXELS, QUESTIONS, SYSTEM
from triptych_data.formats.plain_row import plain_record
from triptych_data.formats.shape import _read_any
from triptych_data.formats.truths import FURTHER, TRUTHS

PLAIN = {
    "two images": {"id": 3, "prompt": "Is <image> like <image>?", "images": ["a.png", "b/c.JPG"], "answer": "yes"},
    "no image": {"problem": "How many sides has a cube?", "solution": "6", "images": []},
    "images without markers": {"question": "What is this?", "images": ["a.png"]},
    "columns for rewards": {"prompt": "Look <image> here", "images": ["a"], "mode": "numeric", "level": 3, "x": None},
}
LEFT = {
    "another marker": {"prompt": "Is <image:1> this?", "images": ["a.png"]},
    "a mark of a video": {"prompt": "Is <video> this?", "images": ["a.png"]},
    "a text in brackets": {"prompt": " [1, 2] which?", "images": []},
    "a turn of a template": {"prompt": "USER: <image> which? ASSISTANT:", "images": ["a.png"]},
    "one word": {"prompt": "a.png", "images": ["b.png"]},
    "a video among the images": {"prompt": "Is <image> this?", "images": ["a.mp4"]},
    "two questions": {"prompt": "Is this one?", "question": "Is that one?", "images": []},
    "two answers": {"prompt": "Is this one?", "answer": "1", "solution": "2"},
    "an image in another column": {"prompt": "Is this one?", "first": "a.png"},
    "options": {"prompt": "Is this one?", "A": "yes", "B": "no"},
    "a list": {"prompt": "Is this one?", "answer": ["yes"]},
}
COLUMNS = sorted(
    {*CONVERSATIONS, *QUESTIONS, *IMAGES, *ANSWERS, *LABELS, *OPTIONS, *PIXELS, *SYSTEM, *TRUTHS, *FURTHER}
    | {
        "id",
        "objects",
        "history",
        "data_type",
        "tools",
        "system_prompt",
        "context",
        "resized_height",
        "A",
        "B",
        "video",
        "audio",
    }
    | {"source", "file_name", "reward_key", "split", "level", "mode", "photo", "mask", "input", "Tools", "Hint", "wav"}
)
TEXTS = ["", " ", "a.png", "b.mp4", "yes", "6", "[1]", " {}", "Is <image> it?", "<video> it", "<bbox> it", "USER: it"]
TEXTS += [
    '{"answer": "3"}',
    "data:image/png;base64,AAAA it",
    "a <image><image> b",
    "<|im_start|> it",
    "[INST] it",
    "image",
    "video",
]
VALUES = st.sampled_from([*TEXTS, None, 3, 0.5, True, [], ["a.png"], ["a.png", "b.png"], ["a.mp4"], [["a"]], {}, [3]])


def general(row: dict[str, Any], no_markers: Any) -> Any:
    try:
        return _read_any(row, no_markers)
    except RowError:
        return None


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_row_is_read_without_a_search(name):
    found = plain_record(PLAIN[name], no_markers="error")
    assert found is not None
    assert found == general(PLAIN[name], "error")


@pytest.mark.parametrize("name", LEFT)
def test_another_row_is_left_to_the_general_reader(name):
    assert plain_record(LEFT[name], no_markers="error") is None


@given(
    question=st.sampled_from([*TEXTS, "What is it?"]),
    others=st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=3),
    no_markers=st.sampled_from(["error", "first"]),
)
@example(question="What is it?", others={"level": 3}, no_markers="first")
def test_a_record_is_the_one_of_the_general_reader(question, others, no_markers):
    row = {"prompt": question, **others}
    found = plain_record(row, no_markers=no_markers)
    assert found is None or found == general(row, no_markers)


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_that_is_looked_for_passes_as_one_for_rewards(column):
    for value in (*TEXTS, None, 3, 0.5, True, [], ["a.png"], {}):
        for question in ("What is it?", "Is <image> it?"):
            row = {"prompt": question, "images": ["a.png"], column: value}
            found = plain_record(row, no_markers="error")
            assert found is None or found == general(row, "error")
