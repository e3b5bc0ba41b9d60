"""The demo's three question families; a sample is a pure function of (seed, split, index)."""

import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from .pictures import COLOURS, Picture, draw_picture, random_picture

Family = Literal["before", "shelf", "which"]
Placement = Literal["in_place", "first"]

FAMILIES: tuple[Family, ...] = ("before", "shelf", "which")
PLACEMENTS: tuple[Placement, ...] = ("in_place", "first")
ORDINALS = ("first", "second", "third")
SHELVES = ("A", "B", "C")
MARKER = "<image>"
# Accuracy of the best guess that knows the prompt's words and sees the pictures but not where they stand
# (before: which of the two shown colours; shelf: which of three shelves; which: which of three ordinals).
CHANCE: dict[Family, float] = {"before": 1 / 2, "shelf": 1 / 3, "which": 1 / 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question over several pictures; `question` holds one `<image>` marker per picture, in order."""

    id: str
    family: Family
    question: str
    pictures: tuple[Picture, ...]
    answer: str
    thought: str
    hasty_answer: str

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
    """Return sample `index` of a split; the three families take turns."""
    family = FAMILIES[index % len(FAMILIES)]
    rng = random.Random(f"{seed}/{split}/{index}")
    sample_id = f"{split}-{index:06d}"
    if family == "before":
        return _before(rng, sample_id=sample_id)
    if family == "shelf":
        return _shelf(rng, sample_id=sample_id)
    return _which(rng, sample_id=sample_id)


def place_markers(question: str, *, placement: Placement) -> str:
    """Keep the markers where they stand ("in_place") or move all of them to the front ("first", as VLM-R1 does)."""
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
    return Sample(
        id=sample_id,
        family="before",
        question=question,
        pictures=pictures,
        answer=pictures[labels.index(asked)].colour,
        thought=" ".join(f"{picture.colour} {label}" for picture, label in zip(pictures, labels, strict=True)),
        hasty_answer=pictures[0].colour,
    )


def _shelf(rng: random.Random, *, sample_id: str) -> Sample:
    """Draw the asked picture's rank and its shelf independently, then fill the shelves around it; shelves may be empty.

    Rank and shelf are independent, so the order of the pictures alone says nothing about the answer: with all
    images first no rule beats one in three.
    """
    count = rng.choice((3, 4))
    pictures = _pictures(rng, count=count)
    rank, place = rng.randrange(count), rng.randrange(len(SHELVES))
    earlier = sorted(rng.randint(0, place) for _ in range(rank))
    later = sorted(rng.randint(place, len(SHELVES) - 1) for _ in range(count - rank - 1))
    places = [*earlier, place, *later]
    names = rng.sample(SHELVES, len(SHELVES))
    shelves = [" ".join([f"Shelf {name} :", *[MARKER] * places.count(k), "."]) for k, name in enumerate(names)]
    return Sample(
        id=sample_id,
        family="shelf",
        question=" ".join([*shelves, f"Which shelf holds {pictures[rank].colour} ?"]),
        pictures=pictures,
        answer=names[place],
        thought=" ".join(f"{picture.colour} {names[k]}" for picture, k in zip(pictures, places, strict=True)),
        hasty_answer=names[0],
    )


def _which(rng: random.Random, *, sample_id: str) -> Sample:
    pictures = _pictures(rng, count=len(ORDINALS))
    rank = rng.randrange(len(ORDINALS))
    shown = " , ".join([MARKER] * len(ORDINALS))
    return Sample(
        id=sample_id,
        family="which",
        question=f"Look at {shown} . Which one is {pictures[rank].colour} ?",
        pictures=pictures,
        answer=ORDINALS[rank],
        thought=" ".join(f"{picture.colour} {ordinal}" for picture, ordinal in zip(pictures, ORDINALS, strict=True)),
        hasty_answer=ORDINALS[0],
    )
