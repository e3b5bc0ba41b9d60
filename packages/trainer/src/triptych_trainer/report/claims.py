"""Quotes about each image: the words around every mention of it in a text, for a reader to compare with the picture."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["claims"]

LONGEST = 90
"""Characters of a quote."""
_END = re.compile(r"[.;!?]+(?=\s|$)|\n+")
_LEAD = re.compile(r"[\W_]*(?:(?:and|at|but|for|in|of|on|the|then|to|while|with)\b[\W_]*)*", re.IGNORECASE)
_TAIL = re.compile(r"[\s,:;.\-\u2013\u2014]*(?:\b(?:and|but|while|in|on|the|then)[\s,]*)*$", re.IGNORECASE)

Stretch = tuple[str, Sequence[int] | None]
"""A stretch of text, and the images (from 0) that it is a mention of, if it is one."""


def claims(parts: Sequence[Sequence[Any]]) -> list[tuple[int, str]]:
    """Return (image, quote) for each mention that is among other words, in order and each once.

    `parts` are those of a completion: [kind, text] and, for mentions, [kind, text, images]. A quote is the mention's
    clause. A clause of several is cut before each where it begins with one (`A red B blue`), and after each where it
    does not (`red on A, blue on B`). A label of several images that is written once for each speaks of them in order.
    """
    quotes = [(tuple(images), quote) for clause in _clauses(parts) for images, quote in _quotes(clause)]
    times = Counter(images for images, _ in quotes)
    place: Counter[tuple[int, ...]] = Counter()
    found: dict[tuple[int, str], None] = {}
    for images, quote in quotes:
        one_by_one = len(images) > 1 and times[images] == len(images)
        meant = images[place[images] : place[images] + 1] if one_by_one else images
        place[images] += 1
        text = _TAIL.sub("", " ".join(quote.split()).lstrip(" ,:-\u2013\u2014"))
        shown = text if len(text) <= LONGEST else text[:LONGEST] + "\u2026"
        found.update({(index, shown): None for index in meant if index >= 0})
    return list(found)


def _clauses(parts: Sequence[Sequence[Any]]) -> Iterator[list[Stretch]]:
    clause: list[Stretch] = []
    kind = None
    for part in parts:
        if part[0] != kind or part[0] in ("tag", "cut"):
            yield clause
            clause, kind = [], part[0]
        if part[0] in ("tag", "cut"):
            continue
        if len(part) > 2:
            clause.append((part[1], part[2]))
            continue
        *ended, rest = _END.split(part[1])
        for text in ended:
            yield [*clause, (text, None)]
            clause = []
        clause.append((rest, None))
    yield clause


def _quotes(clause: Sequence[Stretch]) -> Iterator[tuple[Sequence[int], str]]:
    """The images of each mention of a clause with its words; mentions without any are left out."""
    places = [k for k, (_, images) in enumerate(clause) if images is not None]
    if not places:
        return
    before = "".join(text for text, _ in clause[: places[0]])
    after = bool(_LEAD.fullmatch(before))
    for number, place in enumerate(places):
        start = place if after and number else 0 if number == 0 else places[number - 1] + 1
        end = len(clause) if number == len(places) - 1 else places[number + 1] if after else place + 1
        others = "".join(text for k, (text, _) in enumerate(clause[start:end], start) if k != place)
        images = clause[place][1]
        if images is not None and not _LEAD.fullmatch(others):
            yield images, "".join(text for text, _ in clause[start:end])
