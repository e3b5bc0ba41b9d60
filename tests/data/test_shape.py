"""Rows as public projects distribute them, each read whole: every text, every image at its place, the answer."""

from __future__ import annotations

import datasets
import pytest
from public_questions import QUESTIONS, VIDEO_R1
from public_talks import TALKS
from triptych_data import DataError, Example, read_examples

SHAPES = {**QUESTIONS, **TALKS}


def said(example: Example) -> list[tuple]:
    roles = [turn.role for turn in example.prompt.prompt.turns]
    return [(role, *pieces) for role, pieces in zip(roles, example.prompt.pieces(), strict=True)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_public_row_is_read_as_it_is_distributed(write_jsonl, pictures, name):
    row, turns, answer = SHAPES[name]
    example = read_examples(write_jsonl([row]))[0]
    assert said(example) == turns
    assert example.answer == answer
    assert example.columns == row
    kept = set(row) - {"id", "messages", "message", "conversation", "conversations", "prompt", "problem", "question"}
    kept -= {"query", "history", "system", "image", "images", "image_path", "path"}
    assert {column: example.extras[column] for column in kept} == {column: row[column] for column in kept}


@pytest.mark.slow_except("verl", "Mantis-Instruct", "ViRL39K", "ms-swift, grounding")
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "Qwen-VL finetuning with parts"])
def test_the_same_row_in_a_table_whose_other_columns_are_null(pictures, name, tmp_path):
    row, turns, answer = SHAPES[name]
    others = {column: None for other, _, _ in SHAPES.values() for column in other if column not in row}
    example = read_examples(datasets.Dataset.from_list([{**others, **row}]), image_root=tmp_path)[0]
    assert (said(example), example.answer) == (turns, answer)


def test_a_row_of_the_sample_of_video_r1_with_a_video_is_refused(write_jsonl):
    for row in ({**VIDEO_R1, "data_type": "video", "path": "./a.mp4"}, {**VIDEO_R1, "path": "./a.mp4"}):
        with pytest.raises(
            DataError, match=r"got video .*give its frames as images|expected images in path, got video"
        ):
            read_examples(write_jsonl([row]))
