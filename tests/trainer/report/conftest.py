"""A small recorded run: files and drawn images, repeated visits, a flat group, an evaluation, hostile text."""

import json
from pathlib import Path

import pytest
from made_up import prepared, scored
from PIL import Image, ImageDraw
from triptych_data import Example, ImageSource
from triptych_parser import bind, parse
from triptych_trainer.rollouts.write import RolloutWriter

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


def record(writer, examples, chosen, *, step, mode="train", texts):
    """Record one generation: `texts` holds (completion, accuracy) pairs for each chosen example."""
    every = [score for pairs in texts for _, score in pairs]
    mean = sum(every) / len(every)
    groups = []
    for index, pairs in zip(chosen, texts, strict=True):
        is_screen = any(source.name for source in examples[index].images)
        sizes = {"model_size": (80, 160), "decoded": (160, 320)} if is_screen else {}
        groups.append(
            scored(
                prepared(examples[index], **sizes),
                [text for text, _ in pairs],
                rewards={"accuracy": [score for _, score in pairs], "format": ([1.0, None] * len(pairs))[: len(pairs)]},
                advantages=[score - mean for _, score in pairs],
                key=index,
            )
        )
    writer.record(groups, step=step, mode=mode)


def right(answer):
    return (f"<think>I looked</think><answer>{answer}</answer>", 1.0)


def wrong(answer="second"):
    return (f"<think>I guessed</think><answer>{answer}</answer>", 0.0)


def make_run(run: Path, examples: list[Example], *, gain: bool) -> Path:
    writer = RolloutWriter(run, weights={"format": 0.5})
    screen, text = len(examples) - 2, len(examples) - 1
    for step in (1, 2):
        for index in range(0, 20, 2):
            good = [right(examples[k].answer) for k in (index, index + 1)]
            bad = [wrong("none"), wrong("none")]
            pairs = [[good[0], bad[0]], [good[1], good[1] if gain and step == 2 else bad[1]]]
            record(writer, examples, [index, index + 1], step=step, texts=pairs)
    boxes = [
        (f"<think>hm</think><answer>{json.dumps(BOX)}</answer>", 1.0),
        ("<think>hm</think><answer>In image 1: [5, 5, 40, 30]</answer>", 0.0),
        ("<think>hm</think><answer>image 7: [0, 0, 4, 4]</answer>", 0.0),
        (HOSTILE, 0.0),
    ]
    record(writer, examples, [screen, text], step=3, texts=[boxes, [right("4"), right("4")]])
    record(writer, examples, [screen - 1], step=3, texts=[[right("red"), wrong("green")]])
    record(writer, examples, [0], step=3, mode="eval", texts=[[right("first"), wrong()]])
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
