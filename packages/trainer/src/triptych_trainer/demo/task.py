"""The demo's three kinds of questions; a sample is a pure function of (seed, split, index)."""

import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from .pictures import COLOURS, Picture, draw_picture, random_picture

QuestionKind = Literal["before", "shelf", "which"]
Placement = Literal["in_place", "first"]

QUESTION_KINDS: tuple[QuestionKind, ...] = ("before", "shelf", "which")
PLACEMENTS: tuple[Placement, ...] = ("in_place", "first")
ORDINALS = ("first", "second", "third")
SHELVES = ("A", "B", "C")
MARKER = "<image>"
# Share right when guessing evenly among the answers on offer: the two colours shown, the three shelves, three ordinals.
CHANCE: dict[QuestionKind, float] = {"before": 1 / 2, "shelf": 1 / 3, "which": 1 / 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Contains one question about several pictures; `question` has one `<image>` marker per picture, in order."""

    id: str
    kind: QuestionKind
    question: str
    pictures: tuple[Picture, ...]
    facts: tuple[tuple[str, str], ...]
    """Per picture, in order: what would be answered, and the key it is asked by, as in ("second", "green")."""
    asked: str
    """The key that the question asks for."""

    @property
    def answer(self) -> str:
        """The right answer: the one whose key is asked."""
        return next(value for value, key in self.facts if key == self.asked)

    @property
    def colours(self) -> tuple[str, ...]:
        """The colour shown at each marker, in order."""
        return tuple(picture.colour for picture in self.pictures)

    def prompt(self, *, placement: Placement) -> str:
        """Return the question with its markers in place, or with all of them moved to the front."""
        return place_markers(self.question, placement=placement)

    def images(self) -> list[Image.Image]:
        """Draw the pictures, one RGB image of 56 x 56 pixels per marker."""
        return [draw_picture(picture) for picture in self.pictures]


def make_sample(index: int, *, seed: int, split: str) -> Sample:
    """Return sample `index` of a split; the three kinds take turns."""
    kind = QUESTION_KINDS[index % len(QUESTION_KINDS)]
    rng = random.Random(f"{seed}/{split}/{index}")
    sample_id = f"{split}-{index:06d}"
    if kind == "before":
        return _before(rng, sample_id=sample_id)
    if kind == "shelf":
        return _shelf(rng, sample_id=sample_id)
    return _which(rng, sample_id=sample_id)


def place_markers(question: str, *, placement: Placement) -> str:
    """Keep the markers where they are ("in_place") or move all of them to the front ("first", as VLM-R1 does)."""
    if placement == "in_place":
        return question
    if placement != "first":
        raise ValueError(f"placement: expected one of {PLACEMENTS}, got {placement!r}")
    words = question.split()
    markers = [word for word in words if word == MARKER]
    return " ".join(markers + [word for word in words if word != MARKER])


def _pictures(rng: random.Random, *, count: int) -> tuple[Picture, ...]:
    return tuple(random_picture(rng, colour=colour) for colour in rng.sample(list(COLOURS), count))


def _before(rng: random.Random, *, sample_id: str) -> Sample:
    labels = rng.sample(("before", "after"), 2)
    pictures = _pictures(rng, count=2)
    asked = rng.choice(labels)
    question = " ".join(f"{label.capitalize()} : {MARKER} ." for label in labels) + f" Which colour was it {asked} ?"
    facts = tuple((picture.colour, label) for picture, label in zip(pictures, labels, strict=True))
    return Sample(id=sample_id, kind="before", question=question, pictures=pictures, facts=facts, asked=asked)


def _shelf(rng: random.Random, *, sample_id: str) -> Sample:
    """Draw the asked picture's rank and its shelf independently, then put the others around it; shelves may be empty.

    Rank and shelf are independent, so the order of the pictures alone says nothing about the answer: with all
    images first no rule beats one in three. The others go to other shelves where they can, so that the fullest
    shelf is no good guess either.
    """
    count = rng.choice((2, 3))
    pictures = _pictures(rng, count=count)
    rank, place = rng.randrange(count), rng.randrange(len(SHELVES))
    last = len(SHELVES) - 1
    earlier = sorted(rng.randint(0, max(place - 1, 0)) for _ in range(rank))
    later = sorted(rng.randint(min(place + 1, last), last) for _ in range(count - rank - 1))
    places = [*earlier, place, *later]
    names = rng.sample(SHELVES, len(SHELVES))
    shelves = [" ".join([f"Shelf {name} :", *[MARKER] * places.count(k), "."]) for k, name in enumerate(names)]
    asked = pictures[rank].colour
    question = " ".join([*shelves, f"Which shelf holds {asked} ?"])
    facts = tuple((names[k], picture.colour) for picture, k in zip(pictures, places, strict=True))
    return Sample(id=sample_id, kind="shelf", question=question, pictures=pictures, facts=facts, asked=asked)


def _which(rng: random.Random, *, sample_id: str) -> Sample:
    pictures = _pictures(rng, count=len(ORDINALS))
    asked = rng.choice(pictures).colour
    question = f"Look at {' , '.join([MARKER] * len(ORDINALS))} . Which one is {asked} ?"
    facts = tuple((ordinal, picture.colour) for picture, ordinal in zip(pictures, ORDINALS, strict=True))
    return Sample(id=sample_id, kind="which", question=question, pictures=pictures, facts=facts, asked=asked)
