"""Where a text speaks of an image: by number, ordinal, name, or by the label that the prompt writes before it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from triptych_trainer.rewards import ImageInfo
from triptych_trainer.rewards.citation import image_index, located_images

__all__ = ["Labels", "Mention", "bare_reference", "image_labels", "mentions"]

MOST_WORDS = 4
LONGEST = 80
"""Characters before an image that are searched for its label."""
_LABEL = re.compile(r"(?:^|[.;,\n?!>]|:\s)\s*([^\W_][^.;,:\n?!<>]{0,40}?)\s*:\s*$")
_ORDINAL = re.compile(r"\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)\b", re.IGNORECASE)
Piece = str | int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mention:
    """Contains the characters `start..end` of a text, and the images (from 0) that they mean; -1 for an image that is
    not there.
    """

    start: int
    end: int
    images: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Contains the names that a prompt gives to its images by the text before them: `Shelf A :` names the images that
    follow.
    """

    images: dict[str, tuple[int, ...]]
    """Every label in lower case, in full, and also its last word if no other label has that last word."""

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The pattern that finds labels in running text, but not where one labels what follows it.

        A single letter needs a capital.
        """
        if not self.images:
            return None
        words = "|".join(re.escape(word) for word in sorted(self.images, key=len, reverse=True))
        return re.compile(rf"(?<!\w)(?:{words})(?!\w)(?!\s*:)", re.IGNORECASE)


def image_labels(turns: Sequence[tuple[str, Sequence[Piece]]]) -> Labels:
    """Read the labels of a prompt's images; the same label before several images means all of them."""
    found: dict[str, list[int]] = {}
    current: str | None = None
    for _, pieces in turns:
        for piece in pieces:
            if isinstance(piece, str):
                label = _LABEL.search(piece[-LONGEST:])
                if label is not None and len(label[1].split()) <= MOST_WORDS:
                    current = " ".join(label[1].lower().split())
                elif piece.strip():
                    current = None
            elif current is not None and piece not in found.setdefault(current, []):
                found[current].append(piece)
    images = {label: tuple(members) for label, members in found.items()}
    last = [label.split()[-1] for label in images]
    short = {word: images[label] for label, word in zip(images, last, strict=True) if last.count(word) == 1}
    return Labels(images={**short, **images})


def mentions(text: str, images: Sequence[ImageInfo], labels: Labels, *, ordinals: bool = False) -> list[Mention]:
    """Return the mentions of a text in order, none overlapping; `ordinals` also takes `second` without a noun."""
    found = [Mention(start=start, end=end, images=(index,)) for start, end, index in located_images(text, images)]
    if (pattern := labels.pattern) is not None:
        for match in pattern.finditer(text):
            meant = labels.images.get(match[0].lower())  # none for a few letters, such as the Turkish dotted I
            if meant is not None and (len(match[0]) > 1 or match[0].isupper()):
                found.append(Mention(start=match.start(), end=match.end(), images=meant))
    for match in _ORDINAL.finditer(text) if ordinals else ():
        index = image_index(match[0], images)
        if index is not None:
            found.append(Mention(start=match.start(), end=match.end(), images=(index,)))
    kept: list[Mention] = []
    for mention in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
    return kept


def bare_reference(text: str, images: Sequence[ImageInfo], labels: Labels) -> tuple[int, ...]:
    """Return the images that a whole text names by a label alone, as the answer `B` does; else none."""
    word = " ".join(text.strip().strip(".\"'`()").lower().split())
    return labels.images.get(word, ())
