"""Rows with a list of turns or messages, as public projects distribute them."""

from typing import Any

LLAVA_TURNS = [
    {"from": "human", "value": "<image>\n<image>\nWhich is darker?"},
    {"from": "gpt", "value": "The first."},
    {"from": "human", "value": "By how much?"},
    {"from": "gpt", "value": "A lot."},
]

TALKS: dict[str, tuple[dict[str, Any], list[tuple], str | None]] = {
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
    "verl, where the image was": (
        {
            "data_source": "geo3k",
            "prompt": [{"role": "user", "content": "<image><image>Find x."}],
            "images": ["0.png", "1.jpg"],
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"split": "train", "image_path": ["train/17.png", "train/18.png"]},
        },
        [("user", 0, 1, "Find x.")],
        "4",
    ),
    "Aguvis": (
        {
            "image": "0.png",
            "conversations": [
                {"from": "system", "value": "You are a GUI agent."},
                {"from": "human", "value": "<image>\nOpen the menu."},
                {"from": "gpt", "value": "pyautogui.click(x=0.1, y=0.2)", "recipient": "os", "end_turn": True},
            ],
        },
        [("system", "You are a GUI agent."), ("user", 0, "\nOpen the menu.")],
        "pyautogui.click(x=0.1, y=0.2)",
    ),
    "verl with image": (
        {"prompt": [{"role": "user", "content": "Find x."}], "reward_model": {"ground_truth": "4"}, "image": "0.png"},
        [("user", 0, "Find x.")],
        "4",
    ),
    "verl, the answer in extra_info": (
        {
            "data_source": "geo3k",
            "prompt": [{"role": "user", "content": "<image>Find x."}],
            "images": ["0.png"],
            "reward_model": {"style": "model"},
            "extra_info": '{"index": 0, "answer": "4", "solution": "2 + 2 = 4"}',
        },
        [("user", 0, "Find x.")],
        "4",
    ),
    "SkyRL": (
        {
            "data_source": "geo3k",
            "prompt": [{"role": "user", "content": "<image>Find x."}],
            "images": ["0.png"],
            "env_class": "geo3k",
            "reward_spec": {"method": "rule", "ground_truth": "4"},
        },
        [("user", 0, "Find x.")],
        "4",
    ),
    "Search-R1": (
        {
            "prompt": [{"role": "user", "content": "Which city?"}],
            "ability": "fact-reasoning",
            "reward_model": {"style": "rule", "ground_truth": {"target": ["Paris", "paris"]}},
        },
        [("user", "Which city?")],
        '["Paris", "paris"]',
    ),
    "NeMo-Skills": (
        {"problem": "Find x.", "image": "0.png", "expected_answer": "4"},
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
"""By name: the row, what the turns say with images as numbers, the answer."""
