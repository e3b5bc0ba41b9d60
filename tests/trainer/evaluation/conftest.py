"""An evaluation of two models on drawn images, written without models: what each said is made up here."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up import prepared
from made_up import scored as scored_group
from PIL import Image, ImageDraw
from triptych_data import Example, ImageSource
from triptych_parser import bind, parse
from triptych_trainer.evaluation.page import evaluation_page
from triptych_trainer.evaluation.paired import differences
from triptych_trainer.evaluation.scores import ScoredRow, breakdowns
from triptych_trainer.rollouts.write import RolloutWriter

HOSTILE = '<script>document.title = "owned"</script><img src=x onerror=alert(1)>\u2028 </script><!-- &amp; '
BOX = json.dumps({"bbox_2d": [8, 8, 48, 48], "image": 2})
COLOURS = ("red", "green", "blue")
OUTCOMES = [(1, 0), (0, 1), (0, 0), (1, 1)]
"""Whether the model and the base are right, row by row in turn."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The page, and the rows that it was made of."""

    page: Path
    scored: dict[str, list[ScoredRow]]


def drawn(colour):
    picture = Image.new("RGB", (56, 56), "white")
    ImageDraw.Draw(picture).ellipse((8, 8, 48, 48), fill=colour)
    return picture


def make_examples() -> list[Example]:
    which = [
        Example(
            id=f"which-{k:02d}",
            prompt=bind(parse("See <image> , <image> and <image> . Which is red ?"), [None] * 3),
            images=tuple(ImageSource(ref=drawn(COLOURS[(j + k) % 3])) for j in range(3)),
            answer=("first", "third", "second")[k % 3],
            extras={},
            source=f"shapes.jsonl:{k + 1}",
        )
        for k in range(20)
    ]
    twice = Example(
        id="swapped",
        prompt=bind(parse("After <image:2> before <image:1> . Where ?"), 2),
        images=tuple(ImageSource(ref=drawn(colour)) for colour in ("red", "blue")),
        answer=BOX,
        extras={},
        source="boxes.jsonl:1",
    )
    return [*which, twice]


def said(example, *, right):
    if example.id == "swapped":
        return f"<think>hm</think><answer>{BOX if right else HOSTILE}</answer>"
    return f"<think>I looked</think><answer>{example.answer if right else 'second ' + HOSTILE}</answer>"


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory) -> Evaluated:
    folder, examples = tmp_path_factory.mktemp("evaluation"), make_examples()
    rights = {"model": [a for a, _ in OUTCOMES], "base": [b for _, b in OUTCOMES]}
    scored = {
        run: [
            ScoredRow(
                key=example.key,
                example_id=example.id,
                source=example.source,
                num_images=len(example.images),
                columns={"answer": example.answer, "kind": example.id.split("-")[0]},
                completions=(said(example, right=right[k % 4]),),
                scores={"accuracy": float(right[k % 4])},
                answer_image={"first": 1, "second": 2, "third": 3}.get(example.answer, 2),
            )
            for k, example in enumerate(examples)
        ]
        for run, right in rights.items()
    }
    for run, rows in scored.items():
        groups = [
            scored_group(prepared(example), row.completions, rewards={"accuracy": [row.scores["accuracy"]]})
            for example, row in zip(examples, rows, strict=True)
        ]
        RolloutWriter(folder / run).record(groups, step=0, mode="eval")
    page = folder / "eval.html"
    evaluation_page(
        page,
        scored,
        rollouts={run: folder / run for run in scored},
        sliced={run: breakdowns(rows, by=["kind"], position=None) for run, rows in scored.items()},
        paired=differences(scored["model"], scored["base"], by=["kind"], position=None),
        by=["kind"],
        position=None,
        names={"model": "trained", "base": "<i>base</i>"},
        data="held.jsonl",
        verdict="accuracy",
    )
    return Evaluated(page=page, scored=scored)
