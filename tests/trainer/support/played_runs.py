"""A recorded run with tools: a good completion, a failed call, a box beside the expected one, and every end."""

import json
from pathlib import Path

from made_up import played, prepared, scored
from PIL import Image, ImageDraw
from triptych_data import Example, ImageSource
from triptych_parser import bind, parse
from triptych_trainer.rollouts.write import RolloutWriter

ZOOM = {"name": "zoom", "box_frame": "thousandths"}


def plan() -> Image.Image:
    picture = Image.new("RGB", (200, 100), "#dde8f0")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((20, 20, 60, 60), fill="#cc3344")
    draw.ellipse((130, 30, 180, 80), fill="#3366cc")
    return picture


def example() -> Example:
    other = Image.new("RGB", (200, 100), "#eee8d0")
    return Example(
        id="plan-1",
        prompt=bind(parse("Before: <image> After: <image>\nWhat is the mark on the plan before ?"), [None] * 2),
        images=(ImageSource(ref=plan()), ImageSource(ref=other)),
        answer=json.dumps({"bbox_2d": [20, 20, 60, 60], "image": 1}),
        extras={},
        source="plans.jsonl:1",
    )


def rollouts() -> list:
    """Right; a failed call and a wrong answer; over-turn after a repeated call; cut by room."""
    closer = plan().crop((10, 10, 70, 70)).resize((120, 120))
    wide = plan().crop((120, 20, 190, 90)).resize((120, 120))
    call = {**ZOOM, "arguments": {"image": 1, "box": [50, 100, 350, 700]}}
    beside = {**ZOOM, "arguments": {"image": 1, "box": [600, 200, 950, 900]}}
    lost = {**ZOOM, "arguments": {"image": 9, "box": [0, 0, 10, 10]}, "failed": True}
    late = {**call, "was_done": False}
    sorry = "{'error': 'there is no image 9; there are images 1 to 3'}"
    answer = '<answer>{"bbox_2d": [20, 20, 60, 60], "image": 1}</answer>'
    return [
        played(
            {"said": "I look closer at image 1.", "calls": [call], "returned": [["Here: ", closer]]},
            {"said": f"Image 3 shows a red mark. {answer}"},
            turn_rewards=[0.5, 0.5],
        ),
        played(
            {"said": "I look on the right.", "calls": [beside], "returned": [[wide]]},
            {"said": "And at the ninth.", "calls": [lost], "returned": [[sorry]]},
            {"said": "A blue disc. <answer>[130, 30, 180, 80] in image 1</answer>"},
            turn_rewards=[0.0, -0.2, 0.0],
        ),
        played(
            {"said": "", "calls": [call], "returned": [[closer]]},
            {"said": "Again.", "calls": [call], "returned": [[closer]]},
            {"said": "Once more.", "calls": [late]},
            finish="turns",
            turn_rewards=[0.0, 0.0, 0.0],
        ),
        played({"said": "Closer.", "calls": [call]}, finish="room", turn_rewards=[0.0]),
    ]


def write_played_run(run: Path) -> Path:
    writer = RolloutWriter(run)
    scores = [1.0, 0.0, 0.0, 0.0]
    prompt = prepared(example(), model_size=(100, 200), decoded=(100, 200))
    for step in (1, 2):
        one = scored(prompt, rollouts(), rewards={"accuracy": scores}, advantages=[0.75, -0.25, -0.25, -0.25])
        writer.record([one], step=step, mode="train")
    return run
