"""Three kinds of questions about closed boxes; a sample is a pure function of (seed, split, index)."""

import random
from dataclasses import dataclass
from typing import Literal

from triptych_trainer.demo.pictures import COLOURS, SHAPES

__all__ = [
    "CALLING_TURNS",
    "CHANCE",
    "COMPLETION_TOKENS",
    "LOOKS",
    "NUM_BOXES",
    "QUESTION_KINDS",
    "BoxSample",
    "Inside",
    "QuestionKind",
    "make_sample",
]

QuestionKind = Literal["lids", "one", "two"]

QUESTION_KINDS: tuple[QuestionKind, ...] = ("lids", "one", "two")
NUM_BOXES = 3
CALLING_TURNS = 2
"""After so many turns with a look, one more ends the rollout without an answer."""
COMPLETION_TOKENS = 64
"""The most tokens of a rollout, those of its pictures included."""
LOOKS: dict[QuestionKind, int] = {"lids": 0, "one": 1, "two": 2}
"""How often a box has to be opened; `lids` asks what the overview shows."""
CHANCE: dict[QuestionKind, float | None] = {"lids": None, "one": 1 / len(COLOURS), "two": 1 / len(COLOURS) ** 2}
"""Share right without opening a box; the overview says nothing about what is inside."""
_TURNS: tuple[QuestionKind, ...] = ("lids", "one", "one", "one", "two")
"""The kind of each sample, in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Says what is in a box."""

    colour: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSample:
    """Contains one question over one overview picture of closed boxes."""

    id: str
    kind: QuestionKind
    question: str
    """Without the overview, which comes before it."""
    lids: tuple[str, ...]
    """The colour of each box's lid; all differ."""
    inside: tuple[Inside, ...]
    """What is in each box; the colours are drawn without regard to anything visible."""
    asked: tuple[int, ...]
    """The boxes that the question is about, counted from 1; none for `lids`."""

    @property
    def answer(self) -> str:
        """The right answer: colours, in the order of the question."""
        return " ".join(self.inside[box - 1].colour for box in self.asked) if self.asked else " ".join(self.lids)

    @property
    def asked_lid(self) -> str:
        """The lid by which `one` names its box."""
        return self.lids[self.asked[0] - 1]


def make_sample(index: int, *, seed: int, split: str) -> BoxSample:
    """Return sample `index` of a split: a fifth about lids, three fifths about one box, a fifth about two."""
    kind = _TURNS[index % len(_TURNS)]
    rng = random.Random(f"look/{seed}/{split}/{index}")
    lids = tuple(rng.sample(list(COLOURS), NUM_BOXES))
    inside = tuple(Inside(colour=rng.choice(list(COLOURS)), shape=rng.choice(SHAPES)) for _ in range(NUM_BOXES))
    asked = tuple(rng.sample(range(1, NUM_BOXES + 1), LOOKS[kind]))
    questions: dict[QuestionKind, str] = {
        "lids": "What colours are the lids ?",
        "one": f"What is in the {lids[asked[0] - 1]} box ?" if asked else "",
        "two": " ".join(("What is in", " and ".join(f"box {box}" for box in asked), "?")),
    }
    return BoxSample(
        id=f"{split}-{index:06d}",
        kind=kind,
        question=questions[kind],
        lids=lids,
        inside=inside,
        asked=asked,
    )
