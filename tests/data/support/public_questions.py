"""Rows with a column for the question, as public projects distribute them."""

import base64
import io
import json
from typing import Any

from PIL import Image


def _embedded() -> str:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "gray").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


EMBEDDED = _embedded()
"""A picture inside its row, as in a parquet file: it has no name of its own."""

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
MESSAGE = [
    {
        "role": "user",
        "content": [{"type": "image", "image": "0.png"}, {"type": "text", "text": "How many cats in the image?"}],
    }
]
QUESTIONS: dict[str, tuple[dict[str, Any], list[tuple], str | None]] = {
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
    "MMStar": (
        {
            "index": 0,
            "question": "Where is it?\nOptions: A: on the book, B: beneath the cat",
            "image": EMBEDDED,
            "answer": "A",
            "category": "coarse perception",
            "l2_category": "image scene and topic",
            "meta_info": {"source": "MMBench", "split": "val", "image_path": "images/0.jpg"},
        },
        [("user", 0, "Where is it?\nOptions: A: on the book, B: beneath the cat")],
        "A",
    ),
    "POPE": (
        {
            "question_id": "1",
            "question": "Is there a snowboard in the image?",
            "answer": "yes",
            "image_source": "COCO_val2014_000000310196.jpg",
            "image": EMBEDDED,
            "category": "adversarial",
        },
        [("user", 0, "Is there a snowboard in the image?")],
        "yes",
    ),
    "CLEVR with its pictures": (
        {
            "image": "0.png",
            "image_index": 0,
            "question": "Are there more cubes?",
            "image_filename": "CLEVR_train_000000.png",
            "answer": "yes",
            "program": [{"inputs": [], "function": "scene", "value_inputs": []}],
        },
        [("user", 0, "Are there more cubes?")],
        "yes",
    ),
    "a picture and the path that it had": (
        {"image": EMBEDDED, "image_path": "train/17.jpg", "question": "Q?", "answer": "3"},
        [("user", 0, "Q?")],
        "3",
    ),
}
"""By name: the row, what the turns say with images as numbers, the answer."""
