"""Reading and writing the inside of `<image:ref|annotation>`."""

from __future__ import annotations

import re

from triptych_parser.scan import Found, Match, count_backslashes

__all__ = ["is_name", "match_image", "write_image"]

_OPENER = "<image"
_IN_REF, _IN_ANNOTATION = "<>|\n", "<>\n"
_STOP = re.compile(r"[<>|\n]")


def match_image(text: str, *, literal: bool) -> Match:
    """Return a matcher for `<image>`, `<image:2>`, `<image:name>`, each with an optional `|annotation`."""
    ends: dict[int, tuple[int, int]] | None = None

    def match(at: int, *, content: bool) -> Found | None:
        nonlocal ends
        body = at + len(_OPENER)
        kind = text[body : body + 1]
        if kind == ">":
            return Found(at, body + 1)
        if kind not in (":", "|"):
            return None
        if ends is None:
            ends = _ends(text, at, literal)
        if at not in ends:
            return None
        bar, close = ends[at]
        if not content:
            return Found(start=at, end=close + 1)
        ref = _unescape(text[body + 1 : bar], _IN_REF) if kind == ":" else None
        annotation = _unescape(text[bar + 1 : close], _IN_ANNOTATION) if bar < close else None
        return Found(start=at, end=close + 1, ref=_as_ref(ref), annotation=annotation)

    return match


def _ends(text: str, first: int, literal: bool) -> dict[int, tuple[int, int]]:
    """For each opener from `first` on that begins a marker: where its reference ends and where its `>` is.

    The text is read once from its end, because whether an opener begins a marker depends on what follows. A marker in
    literal text will be escaped, so the `<` of its opener does not end the markers around it.
    """
    ends: dict[int, tuple[int, int]] = {}
    ref: tuple[int, int] | None = None  # the ends of a marker whose reference reaches the character at hand
    annotation: int | None = None  # the `>` of a marker whose annotation reaches it
    for at in reversed([found.start() for found in _STOP.finditer(text, first)]):
        escaped = count_backslashes(text, at) % 2 == 1
        char = text[at]
        if text.startswith(_OPENER, at):
            body = at + len(_OPENER)
            kind = text[body : body + 1]
            if kind == ":" and ref is not None:
                ends[at] = ref
            elif kind == "|" and annotation is not None:
                ends[at] = (body, annotation)
            escaped = escaped or (literal and (kind == ">" or at in ends))
        if escaped:
            continue
        if char == ">":
            ref, annotation = (at, at), at
        elif char == "|":
            ref = None if annotation is None else (at, annotation)
        else:
            ref = annotation = None
    return ends


def is_name(ref: str) -> bool:
    """Return whether a marker can be written with this name: not empty, no space at either end, not a number."""
    return bool(ref) and ref == ref.strip() and isinstance(_as_ref(ref), str)


def write_image(ref: int | str | None, annotation: str | None) -> str:
    """Write one marker; the inverse of `match_image`."""
    inside = "" if ref is None else ":" + _escape(str(ref), _IN_REF)
    if annotation is not None:
        # An active character follows the reference and the annotation, so each doubles its trailing backslashes.
        inside += "|" + _escape(annotation, _IN_ANNOTATION)
    return f"{_OPENER}{inside}>"


def _unescape(body: str, specials: str) -> str:
    if "\\" not in body:
        return body
    out: list[str] = []
    slashes = 0
    for char in body:
        if char == "\\":
            slashes += 1
            continue
        out.append("\\" * (slashes // 2 if char in specials else slashes))
        out.append(char)
        slashes = 0
    out.append("\\" * (slashes // 2))  # what follows the body is an active special character
    return "".join(out)


def _escape(value: str, specials: str) -> str:
    out: list[str] = []
    slashes = 0
    for char in value:
        if char == "\\":
            slashes += 1
        elif char in specials:
            out.append("\\" * (slashes + 1))
            slashes = 0
        else:
            slashes = 0
        out.append(char)
    out.append("\\" * slashes)
    return "".join(out)


def _as_ref(body: str | None) -> int | str | None:
    """A number only in its canonical form, so that writing it back gives the same characters."""
    if body and len(body) < 10 and body.isascii() and body.isdigit() and (body == "0" or body[0] != "0"):
        return int(body)
    return body
