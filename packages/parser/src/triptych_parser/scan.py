"""The linear scan: text in, literal pieces and markers out, and the escaping that undoes it.

Only `str.find`, `str.startswith`, indexing and slicing touch the text, and no character is searched twice by the same
search: the cost of a text is a small constant times its length whatever it holds.

Escapes: `k` backslashes directly before something that reads as a marker stand for `k // 2` backslashes, and an odd
`k` makes the marker literal text. Backslashes anywhere else mean themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Found", "Matcher", "escape", "scan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A marker found in a text: `text[start:end]`, with its reference and annotation unescaped."""

    start: int
    end: int
    ref: int | str | None = None
    annotation: str | None = None


Matcher = Callable[[int], Found | None]
"""Given the offset of an opener, the marker that starts there, or None when it is only text."""


def scan(text: str, *, opener: str, matcher: Callable[[str], Matcher]) -> list[str | Found]:
    """Split a text into literal strings (escapes undone) and markers, in order; no empty strings."""
    match = matcher(text)
    pieces: list[str | Found] = []
    literal: list[str] = []
    done = cursor = 0
    while (at := text.find(opener, cursor)) >= 0:
        found = match(at)
        if found is None:
            cursor = at + len(opener)
            continue
        slashes = _backslashes_before(text, at, floor=done)
        literal.append(text[done : at - slashes + slashes // 2])
        if slashes % 2:
            literal.append(text[found.start : found.end])
        else:
            _flush(literal, pieces)
            pieces.append(found)
        done = cursor = found.end
    literal.append(text[done:])
    _flush(literal, pieces)
    return pieces


def escape(text: str, *, opener: str, matcher: Callable[[str], Matcher], before_marker: bool) -> str:
    """Write literal text so that `scan` gives it back; `before_marker` says that a marker follows directly."""
    match = matcher(text)
    out: list[str] = []
    done = cursor = 0
    while (at := text.find(opener, cursor)) >= 0:
        found = match(at)
        if found is None:
            cursor = at + len(opener)
            continue
        slashes = _backslashes_before(text, at, floor=done)
        out += [text[done:at], "\\" * (slashes + 1), text[found.start : found.end]]
        done = cursor = found.end
    out.append(text[done:])
    if before_marker:
        out.append("\\" * _backslashes_before(text, len(text), floor=done))
    return "".join(out)


def _backslashes_before(text: str, at: int, *, floor: int) -> int:
    first = at
    while first > floor and text[first - 1] == "\\":
        first -= 1
    return at - first


def _flush(literal: list[str], pieces: list[str | Found]) -> None:
    joined = "".join(literal)
    literal.clear()
    if joined:
        pieces.append(joined)
