"""Rows as public projects distribute them, each read whole: every text, every image at its place, the answer."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pytest
from triptych_data import DataError, Example, read_examples

VIDEO_R1 = {
    "problem_id": 2,
    "problem": "Which bar is highest?",
    "data_type": "image",
    "problem_type": "multiple choice",
    "options": ["A. first", "B. last"],
    "solution": "<answer>B</answer>",
    "path": "./0.png",
    "data_source": "Chart",
}
LLAVA_TURNS = [
    {"from": "human", "value": "<image>\n<image>\nWhich is darker?"},
    {"from": "gpt", "value": "The first."},
    {"from": "human", "value": "By how much?"},
    {"from": "gpt", "value": "A lot."},
]
MESSAGE = [
    {
        "role": "user",
        "content": [{"type": "image", "image": "0.png"}, {"type": "text", "text": "How many cats in the image?"}],
    }
]
# name: (row, what the turns say with images as numbers, the answer)
SHAPES: dict[str, tuple[dict[str, Any], list[tuple], str | None]] = {
    "R1-V": (
        {"image": "0.png", "problem": "How many items are there?", "solution": "<answer> 3 </answer>"},
        [("user", 0, "How many items are there?")],
        "<answer> 3 </answer>",
    ),
    "Visual-RFT": (
        {
            "image": {"bytes": None, "path": "0.png"},
            "problem": "Detect all cats.",
            "solution": "[{'Position': [1, 2, 3, 4]}]",
        },
        [("user", 0, "Detect all cats.")],
        "[{'Position': [1, 2, 3, 4]}]",
    ),
    "multimodal-open-r1-8k-verified": (
        {
            "image": "0.png",
            "problem": "Q?",
            "solution": "<answer>B</answer>",
            "original_question": "Q",
            "original_answer": "B",
        },
        [("user", 0, "Q?")],
        "<answer>B</answer>",
    ),
    "VLM-R1": (
        {
            "id": 1,
            "image": ["0.png", "1.jpg"],
            "conversations": [
                {"from": "human", "value": "<image><image>Which?"},
                {"from": "gpt", "value": "the first"},
            ],
        },
        [("user", 0, 1, "Which?")],
        "the first",
    ),
    "VLM-R1 after its own loading": (
        {"image_path": ["0.png", "1.jpg"], "problem": "Which?", "solution": "A", "accu_reward_method": "mcq"},
        [("user", 0, 1, "Which?")],
        "A",
    ),
    "Video-R1, image": (
        VIDEO_R1,
        [("user", 0, "Which bar is highest?\nOptions:\nA. first\nB. last")],
        "<answer>B</answer>",
    ),
    "Video-R1, free form": (
        {**VIDEO_R1, "problem_type": "free-form", "options": []},
        [("user", 0, "Which bar is highest?")],
        "<answer>B</answer>",
    ),
    "MM-Eureka": (
        {"id": "0", "message": json.dumps(MESSAGE), "answer": "$3$"},
        [("user", 0, "How many cats in the image?")],
        "$3$",
    ),
    "MM-Eureka as LMM-R1 prints it": (
        {
            "message": '[{"role": "user", "content": [{"type": "image", "image": "0.png",}, '
            '{"type": "text", "text": "Q"},],}]',
            "answer": "3",
        },
        [("user", 0, "Q")],
        "3",
    ),
    "MMK12": (
        {"id": "7", "question": "Find x.", "answer": "4", "subject": "math", "image": {"bytes": None, "path": "0.png"}},
        [("user", 0, "Find x.")],
        "4",
    ),
    "ViRL39K": (
        {
            "question": "<image> <image> Which angle?",
            "answer": "\\boxed{A}",
            "image": ["0.png", "1.jpg"],
            "qid": "x-1",
            "source": "x",
        },
        [("user", 0, " ", 1, " Which angle?")],
        "\\boxed{A}",
    ),
    "LLaVA, four turns": (
        {"id": "9", "image": ["0.png", "1.jpg"], "conversations": LLAVA_TURNS},
        [("user", 0, "\n", 1, "\nWhich is darker?"), ("assistant", "The first."), ("user", "By how much?")],
        "A lot.",
    ),
    "InternVL with a system turn": (
        {
            "id": 0,
            "image": "0.png",
            "width": 40,
            "height": 30,
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "A wall."},
            ],
        },
        [("system", "Be brief."), ("user", 0, "\nWhat is it?")],
        "A wall.",
    ),
    "LLaVA-NeXT-Interleave (M4-Instruct)": (
        {
            "sample_id": "9",
            "image": ["0.png", "1.jpg"],
            "conversations": [
                {"from": "human", "value": "<image>\n<image>\nWhat was edited?"},
                {"from": "gpt", "value": "The sky."},
            ],
            "metadata": {"dataset": "IEdit", "split": "train"},
        },
        [("user", 0, "\n", 1, "\nWhat was edited?")],
        "The sky.",
    ),
    "MiniCPM, one image": (
        {
            "id": "0",
            "image": "0.png",
            "conversations": [{"role": "user", "content": "Describe it."}, {"role": "assistant", "content": "A cat."}],
        },
        [("user", 0, "Describe it.")],
        "A cat.",
    ),
    "MiniCPM, several images": (
        {
            "id": "0",
            "image": {"<image_00>": "0.png", "<image_01>": "1.jpg"},
            "conversations": [
                {"role": "user", "content": "<image_01> against <image_00>: what is new?"},
                {"role": "assistant", "content": "a chair"},
            ],
        },
        [("user", 1, " against ", 0, ": what is new?")],
        "a chair",
    ),
    "Mantis-Instruct": (
        {
            "id": "n_1",
            "images": [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": "1.jpg"}],
            "conversation": [
                {"role": "user", "content": "<image><image>Same bird?"},
                {"role": "assistant", "content": "No."},
            ],
        },
        [("user", 0, 1, "Same bird?")],
        "No.",
    ),
    "LLaMA-Factory, messages": (
        {
            "messages": [
                {"role": "user", "content": "<image>What?"},
                {"role": "assistant", "content": "A dog."},
            ],
            "images": ["0.png"],
        },
        [("user", 0, "What?")],
        "A dog.",
    ),
    "ms-swift, query and response": (
        {
            "system": "Be brief.",
            "query": "And now?",
            "response": "x",
            "history": [["First?", "a"]],
            "images": ["0.png"],
        },
        [("system", "Be brief."), ("user", 0, "First?"), ("assistant", "a"), ("user", "And now?")],
        "x",
    ),
    "ms-swift, GRPO": (
        {"messages": [{"role": "user", "content": "<image>How many?"}], "images": ["0.png"], "solution": "3"},
        [("user", 0, "How many?")],
        "3",
    ),
    "ms-swift, messages and image": (
        {"messages": [{"role": "user", "content": "How many?"}], "image": "0.png", "solution": "3"},
        [("user", 0, "How many?")],
        "3",
    ),
    "ms-swift, grounding": (
        {
            "messages": [
                {"role": "user", "content": "<image><image>Find <ref-object>"},
                {"role": "assistant", "content": "<bbox> and <bbox>"},
            ],
            "images": ["0.png", "1.jpg"],
            "objects": {"ref": ["cats"], "bbox": [[1, 2, 30, 20], [1.5, 2.0, 3, 4]], "image_id": [1, 0]},
        },
        [("user", 0, 1, "Find cats")],
        "image 2: [1, 2, 30, 20] and image 1: [1.5, 2, 3, 4]",
    ),
    "verl": (
        {
            "data_source": "geo3k",
            "prompt": [{"role": "user", "content": "<image>Find x."}],
            "images": [{"bytes": None, "path": "0.png"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"split": "train", "index": 0, "answer": "4", "question": "<image>Find x."},
        },
        [("user", 0, "Find x.")],
        "4",
    ),
    "verl with image": (
        {"prompt": [{"role": "user", "content": "Find x."}], "reward_model": {"ground_truth": "4"}, "image": "0.png"},
        [("user", 0, "Find x.")],
        "4",
    ),
    "EasyR1 (geometry3k)": (
        {"images": ["0.png"], "problem": "<image>Find x.", "answer": "3"},
        [("user", 0, "Find x.")],
        "3",
    ),
    "TreeVGR": (
        {
            "images": ["0.png"],
            "problem": "<image>Colour?",
            "answer": "white",
            "target_instances": [{"name": "van", "bbox": [1, 2, 3, 4]}],
        },
        [("user", 0, "Colour?")],
        "white",
    ),
    "TRL with the text it was made from": (
        {
            "prompt": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": "Think. How many? Answer last."}],
                }
            ],
            "image": "0.png",
            "problem": "How many?",
            "solution": "3",
        },
        [("user", 0, "Think. How many? Answer last.")],
        "3",
    ),
    "TRL, prompt and completion": (
        {
            "prompt": [{"role": "user", "content": "How many?"}],
            "completion": [{"role": "assistant", "content": "3"}],
            "images": ["0.png"],
        },
        [("user", 0, "How many?")],
        "3",
    ),
    "Qwen-VL finetuning with parts": (
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": ["What is ", {"type": "image", "image": "1.jpg"}, {"text": "?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "A wall."}]},
            ]
        },
        [("system", "Be brief."), ("user", "What is ", 0, "?")],
        "A wall.",
    ),
}


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
