"""Reading and writing the inside of `<image:ref|annotation>`."""

from __future__ import annotations

from triptych_parser.scan import Found, Matcher

__all__ = ["match_image", "write_image"]

_OPENER = "<image"
_STOPS = "<>|\n"


class _Next:
    """Position of the next occurrence of one character; asked with growing offsets it reads the text once."""

    __slots__ = ("_at", "_char", "_text")

    def __init__(self, text: str, char: str) -> None:
        self._text, self._char, self._at = text, char, -1

    def after(self, offset: int) -> int:
        if self._at < offset:
            found = self._text.find(self._char, offset)
            self._at = found if found >= 0 else len(self._text)
        return self._at


def match_image(text: str) -> Matcher:
    """A matcher for `<image>`, `<image:2>`, `<image:name>`, each with an optional `|annotation`."""
    stops = {char: _Next(text, char) for char in _STOPS}
    failed_before = 0

    def match(at: int) -> Found | None:
        nonlocal failed_before
        body = at + len(_OPENER)
        kind = text[body : body + 1]
        if kind == ">":
            return Found(start=at, end=body + 1)
        if at < failed_before or kind not in (":", "|"):
            return None
        ref, annotation, cursor = None, None, body
        if kind == ":":
            cursor = _stop(text, body + 1, "<>|\n", stops)
            ref = _unescape(text[body + 1 : cursor], "<>|\n")
        if text[cursor : cursor + 1] == "|":
            first = cursor + 1
            cursor = _stop(text, first, "<>\n", stops)
            annotation = _unescape(text[first:cursor], "<>\n")
        if text[cursor : cursor + 1] != ">":
            failed_before = cursor
            return None
        return Found(start=at, end=cursor + 1, ref=_as_ref(ref), annotation=annotation)

    return match


def write_image(ref: int | str | None, annotation: str | None) -> str:
    """Write one marker; the inverse of `match_image`."""
    inside = "" if ref is None else ":" + _escape(str(ref), "<>|\n")
    if annotation is not None:
        # An active character follows the reference and the annotation, so each doubles its trailing backslashes.
        inside += "|" + _escape(annotation, "<>\n")
    return f"{_OPENER}{inside}>"


def _stop(text: str, start: int, stops: str, nexts: dict[str, _Next]) -> int:
    """Offset of the first stop character at or after `start` that is not escaped, or the length of the text."""
    cursor = start
    while True:
        at = min(nexts[char].after(cursor) for char in stops)
        first = at
        while first > cursor and text[first - 1] == "\\":
            first -= 1
        if at == len(text) or (at - first) % 2 == 0:
            return at
        cursor = at + 1


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
