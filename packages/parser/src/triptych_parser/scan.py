"""The linear scan: text in, literal pieces and markers out, and the escaping that undoes it.

Only `str.find`, `str.startswith`, indexing and slicing touch the text, and no character is searched twice by the same
search: the cost of a text is a small constant times its length whatever it contains.

Escapes: `k` backslashes directly before something that reads as a marker represent `k // 2` backslashes, and an odd
`k` makes the opener literal text, after which the scan goes on. Backslashes anywhere else mean themselves. Every
literal text can be written so, and in one way only: `escape` writes it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Found", "Match", "Matcher", "count_backslashes", "escape", "scan"]


class Found(NamedTuple):
    """Describes a marker found in a text: `text[start:end]`, with its reference and annotation unescaped."""

    start: int
    end: int
    ref: int | str | None = None
    annotation: str | None = None


class Match(Protocol):
    """Describes a function that gives the marker at the offset of an opener, or None if it is only text."""

    def __call__(self, at: int, *, content: bool) -> Found | None:
        """`content` says whether the reference and the annotation are wanted: copying them has a cost."""


class Matcher(Protocol):
    """Finds the markers of one dialect in a text; each call continues after the one before."""

    def __call__(self, text: str, *, literal: bool) -> Match:
        """Read `text` as it was written, or as literal text (`literal`) whose markers `escape` is going to escape."""


def scan(text: str, *, opener: str, matcher: Matcher) -> list[str | Found]:
    """Split a text into literal strings (escapes undone) and markers, in order; no empty strings."""
    match = matcher(text, literal=False)
    pieces: list[str | Found] = []
    literal: list[str] = []
    done = cursor = 0
    while (at := text.find(opener, cursor)) >= 0:
        slashes = count_backslashes(text, at, floor=done) if text[at - 1] == "\\" else 0
        found = match(at, content=slashes % 2 == 0)
        if found is None:
            cursor = at + len(opener)
            continue
        literal.append(text[done : at - slashes + slashes // 2])
        if slashes % 2:
            literal.append(opener)
            done = cursor = at + len(opener)
        else:
            _flush(literal, pieces)
            pieces.append(found)
            done = cursor = found.end
    literal.append(text[done:])
    _flush(literal, pieces)
    return pieces


def escape(text: str, *, opener: str, matcher: Matcher, before_marker: bool) -> str:
    """Write literal text so that `scan` gives it back; `before_marker` says that a marker follows directly."""
    match = matcher(text, literal=True)
    out: list[str] = []
    done = cursor = 0
    while (at := text.find(opener, cursor)) >= 0:
        if match(at, content=False) is not None:
            out += [text[done:at], "\\" * (count_backslashes(text, at) + 1)]
            done = at
        cursor = at + len(opener)
    out.append(text[done:])
    if before_marker:
        out.append("\\" * count_backslashes(text, len(text)))
    return "".join(out)


def count_backslashes(text: str, at: int, *, floor: int = 0) -> int:
    """Return how many backslashes are directly before an offset, none of them before `floor`."""
    first = at
    while first > floor and text[first - 1] == "\\":
        first -= 1
    return at - first


def _flush(literal: list[str], pieces: list[str | Found]) -> None:
    joined = literal[0] if len(literal) == 1 else "".join(literal)
    literal.clear()
    if joined:
        pieces.append(joined)
