"""What a parsed prompt is: turns of ordered segments, each text or a reference to an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

__all__ = ["ImageMarker", "Prompt", "Segment", "Text", "Turn", "join_texts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Contains literal text, in which escapes are already undone.

    >>> Text(text="Before: ").text
    'Before: '
    """

    text: str
    part: int | None = None
    """Index of the content part this came from; None when the message content was a plain string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMarker:
    """Represents one place in the prompt that shows an image.

    `ref` is None for "the next image in order", a number counted from 1, or a name.

    >>> ImageMarker(ref="before", annotation="the screen before the tap").ref
    'before'
    """

    ref: int | str | None = None
    annotation: str | None = None
    part: int | None = None
    """Index of the content part this came from; None when the message content was a plain string."""
    structured: Mapping[str, Any] | None = field(default=None, hash=False)
    """The content part itself, for an image given as a part and not as a marker in text."""
    start: int = field(default=0, compare=False)
    """Offset of the marker's first character in its text, in characters."""
    end: int = field(default=0, compare=False)
    """Offset just past the marker's last character in its text, in characters."""


Segment = Text | ImageMarker


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Contains one message: who speaks, and the segments in order.

    >>> Turn(role="user", segments=(Text(text="hi"),)).content
    'string'
    """

    role: str
    segments: tuple[Segment, ...]
    content: Literal["string", "parts", "none"] = "string"
    """Whether the message content was a string, a list of parts, or absent."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Keys of the message in addition to role and content, passed through."""
    raw: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The texts as they were written, for error messages: one per part, or one for a string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Contains a parsed prompt: its turns, and where they came from.

    >>> from triptych_parser import parse
    >>> parse("See <image> and <image>.").num_markers
    2
    """

    turns: tuple[Turn, ...]
    dialect: str = "image"
    plain: bool = False
    """True when the prompt was one string and not a list of messages."""
    source: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)

    @property
    def markers(self) -> tuple[ImageMarker, ...]:
        """Every marker of every turn, in reading order.

        >>> from triptych_parser import parse
        >>> [marker.ref for marker in parse("<image:2> <image:1>").markers]
        [2, 1]
        """
        return tuple([segment for turn in self.turns for segment in turn.segments if isinstance(segment, ImageMarker)])

    @property
    def num_markers(self) -> int:
        """How many markers the prompt contains.

        >>> from triptych_parser import parse
        >>> parse("no picture here").num_markers
        0
        """
        return len(self.markers)


def join_texts(segments: Iterable[Segment]) -> list[Segment]:
    """Join neighbouring texts, and leave out empty ones."""
    joined: list[Segment] = []
    for is_text, group in groupby(segments, key=lambda segment: isinstance(segment, Text)):
        if not is_text:
            joined += group
        elif text := "".join(segment.text for segment in group if isinstance(segment, Text)):
            joined.append(Text(text=text))
    return joined
