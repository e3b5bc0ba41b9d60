"""A small recorded run: files and drawn images, repeated visits, a flat group, an evaluation, hostile text."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from triptych_data import Example, ImageSource
from triptych_parser import bind, parse
from triptych_trainer.report import RolloutWriter
from triptych_trainer.rewards import ImageInfo

HOSTILE = '<script>document.title = "owned"</script><img src=x onerror=alert(1)>\u2028 </script><!-- &amp; '
SCREENS = "Before: <image:before>\nAfter: <image:after|after the tap>\nWhere is the error?"
BOX = {"bbox_2d": [10, 20, 60, 50], "image": 2}


def drawn(colour):
    picture = Image.new("RGB", (56, 56), "white")
    ImageDraw.Draw(picture).ellipse((8, 8, 48, 48), fill=colour)
    return picture


def make_examples(folder: Path) -> list[Example]:
    colours = ("red", "green", "blue")
    screens = []
    for name, colour in (("before", "#4477aa"), ("after", "#cc6677")):
        Image.new("RGB", (320, 160), colour).save(folder / f"{name}.png")
        screens.append(ImageSource(ref=f"{name}.png", root=folder, name=name))
    which = [
        Example(
            id=f"which-{k:02d}",
            prompt=bind(parse("See <image> , <image> and <image> . Which is red ?"), [None] * 3),
            images=tuple(ImageSource(ref=drawn(colours[(j + k) % 3])) for j in range(3)),
            answer=("first", "third", "second")[k % 3],
            extras={},
            source=f"shapes.jsonl:{k + 1}",
        )
        for k in range(20)
    ]
    screen = Example(
        id="screen-1",
        prompt=bind(
            parse(SCREENS),
            ["before", "after"],
        ),
        images=tuple(screens),
        answer=json.dumps(BOX),
        extras={},
        source="screens.jsonl:1",
    )
    text = Example(
        id="text-only", prompt=bind(parse("2 + 2 ?"), 0), images=(), answer="4", extras={}, source="text.jsonl:1"
    )
    label = Example(
        id="label-1",
        prompt=bind(parse("After : <image> . Before : <image> . Which colour was it before ?"), 2),
        images=tuple(ImageSource(ref=drawn(colour)) for colour in ("green", "red")),
        answer="red",
        extras={},
        source="labels.jsonl:1",
    )
    return [*which, label, screen, text]


def rollouts(examples, chosen, *, step, mode="train", texts):
    """What the trainer passes to `on_rollouts`: `texts` holds (completion, accuracy) pairs for each chosen example."""
    rows, images, completions, accuracy = [], [], [], []
    for index, pairs in zip(chosen, texts, strict=True):
        infos = [
            ImageInfo(
                index=k,
                name=source.name,
                annotation="after the tap" if source.name == "after" else None,
                width=160 if source.name else 56,
                height=80 if source.name else 56,
                source_width=320 if source.name else 56,
                source_height=160 if source.name else 56,
            )
            for k, source in enumerate(examples[index].images)
        ]
        for text, score in pairs:
            rows.append({"example": index})
            images.append(infos)
            completions.append([{"role": "assistant", "content": text}])
            accuracy.append(score)
    mean = sum(accuracy) / len(accuracy)
    return {
        "step": step,
        "mode": mode,
        "rows": rows,
        "images": images,
        "completions": completions,
        "num_tokens": [len(message[0]["content"].split()) for message in completions],
        "rewards": {"accuracy": accuracy, "format": [1.0, float("nan")] * (len(rows) // 2)},
        "advantages": [score - mean for score in accuracy],
    }


def right(answer):
    return (f"<think>I looked</think><answer>{answer}</answer>", 1.0)


def wrong(answer="second"):
    return (f"<think>I guessed</think><answer>{answer}</answer>", 0.0)


def make_run(run: Path, examples: list[Example], *, gain: bool) -> Path:
    writer = RolloutWriter(run, examples=examples, weights={"format": 0.5})
    screen, text = len(examples) - 2, len(examples) - 1
    for step in (1, 2):
        for index in range(0, 20, 2):
            good = [right(examples[k].answer) for k in (index, index + 1)]
            bad = [wrong("none"), wrong("none")]
            pairs = [[good[0], bad[0]], [good[1], good[1] if gain and step == 2 else bad[1]]]
            writer.record(rollouts(examples, [index, index + 1], step=step, texts=pairs))
    boxes = [
        (f"<think>hm</think><answer>{json.dumps(BOX)}</answer>", 1.0),
        ("<think>hm</think><answer>In image 1: [5, 5, 40, 30]</answer>", 0.0),
        ("<think>hm</think><answer>image 7: [0, 0, 4, 4]</answer>", 0.0),
        (HOSTILE, 0.0),
    ]
    writer.record(rollouts(examples, [screen, text], step=3, texts=[boxes, [right("4"), right("4")]]))
    writer.record(rollouts(examples, [screen - 1], step=3, texts=[[right("red"), wrong("green")]]))
    writer.record(rollouts(examples, [0], step=3, mode="eval", texts=[[right("first"), wrong()]]))
    (run / "run.json").write_text(json.dumps({"command": ["train", "--data", "x.jsonl"], "versions": {"torch": "2"}}))
    return run


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    return make_examples(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory, examples):
    return make_run(tmp_path_factory.mktemp("runs") / "gained", examples, gain=True)


@pytest.fixture(scope="session")
def other_dir(tmp_path_factory, examples):
    return make_run(tmp_path_factory.mktemp("runs") / "stayed", examples, gain=False)
