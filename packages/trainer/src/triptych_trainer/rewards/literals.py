"""Lists and objects in text, as JSON or as Python writes them. Pure and of linear time; text is never an error."""

import json
import re
import sys
from typing import Any

__all__ = ["literal_at", "whole_literal"]

LONGEST = 200_000
"""Characters of one literal that are read."""
DEEPEST = 50

_TOKEN = re.compile(
    r"\s+|[\[\](){},:]|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s\[\](){},:'\"]+",
    re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_BRACKETS = {"(": "[", ")": "]"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|.)|\"", re.DOTALL)


def whole_literal(text: str) -> Any:
    """Return the value that a whole text writes, or None if it is no list or object and nothing else."""
    body = text.strip()
    if not body.startswith(("[", "{", "(")):
        return None
    found = _end_and_json(body, 0)
    if found is None or found[0] != len(body):
        return None
    return literal_at(body, 0)


def literal_at(text: str, start: int) -> Any:
    """Return the list or object that begins at `start`, or None if none can be read there.

    Read are JSON and Python's own form: single quotes, `True`, `None`, tuples as lists, a comma at the end.
    """
    if text[start : start + 1] not in ("[", "{", "("):
        return None
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        pass
    found = _end_and_json(text, start)
    if found is None:
        return None
    try:
        return json.loads(found[1])
    except (ValueError, RecursionError):
        return None


def _end_and_json(text: str, start: int) -> tuple[int, str] | None:
    """Return where the literal ends and what JSON writes for it, or None where its brackets are not closed."""
    pieces: list[str] = []
    depth, place, limit = 0, start, start + LONGEST
    while place < limit and (match := _TOKEN.match(text, place, limit)):
        token, place = match.group(), match.end()
        if token.isspace():
            continue
        if token in "[({":
            depth += 1
            if depth > DEEPEST:
                return None
        if token in "])}":
            depth -= 1
            if pieces and pieces[-1] == ",":
                pieces.pop()
        pieces.append(_as_json(token))
        if depth == 0:
            return place, "".join(pieces)
    return None


def _as_json(token: str) -> str:
    if token[0] in "'\"":
        return f'"{_ESCAPE.sub(_escaped, token[1:-1])}"'.replace("\n", "\\n")
    return _BRACKETS.get(token) or _WORDS.get(token, token)


def _escaped(match: re.Match[str]) -> str:
    """One escape, or one bare double quote, of a string as JSON writes it."""
    character = match.group(1)
    if character is None:
        return '\\"'
    if character == "'":
        return "'"
    if len(character) > 1:
        code = int(character[1:], 16)
        return json.dumps(chr(code))[1:-1] if code <= sys.maxunicode else ""
    return f"\\{character}" if character in '"\\/bfnrtu' else f"\\\\{character}"
