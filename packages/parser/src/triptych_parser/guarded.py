"""Ids of a text in which look-alikes of special tokens, broken by a guard character, stay plain text."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from triptych_parser.backend import encode_texts
from triptych_parser.errors import MarkerError
from triptych_parser.vocabulary import encode_plain

__all__ = ["encode_guarded"]

_ANCHOR = "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """How text that must stay plain is encoded."""

    tokenizer: Any
    guard: str
    forbidden: Collection[int]


def encode_guarded(
    tokenizer: Any,
    text: str,
    *,
    guard: str,
    pattern: re.Pattern[str],
    forbidden: Collection[int],
    add_special_tokens: bool,
) -> list[int]:
    """Encode a guarded text; special tokens that are in it unbroken become special.

    Text without look-alikes is encoded in the longest possible stretches, so that it gets the ids it has in the whole.
    """
    plain = _Plain(tokenizer=tokenizer, guard=guard, forbidden=forbidden)
    before, after = _frame(tokenizer) if add_special_tokens else ([], [])
    ids = list(before)
    done, start, special = 0, 0, None
    for found in [*pattern.finditer(text), None]:
        stop = found.start() if found else len(text)
        if guard in text[start:stop]:
            ids += _real(tokenizer, text[done:start])
            ids += _stretch(plain, text[start:stop], special)
            done = stop
        if found:
            start, special = found.end(), found[0]
    return ids + _real(tokenizer, text[done:]) + after


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special ids that the tokenizer puts before and after a text."""
    bare = _real(tokenizer, "a")
    framed = encode_texts(tokenizer, ["a"], add_special_tokens=True)[0]
    at = next(at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
    return framed[:at], framed[at + len(bare) :]


def _real(tokenizer: Any, text: str) -> list[int]:
    """Ids of text in which what looks special is special."""
    return encode_texts(tokenizer, [text], add_special_tokens=False)[0] if text else []


def _stretch(plain: _Plain, guarded: str, special: str | None) -> list[int]:
    """Ids of a stretch in which nothing is special; `special` is the token before it, None at the start of the text.

    Where the tokenizer makes a forbidden id even of plain text, the stretch is encoded in pieces, cut at the guards.
    """
    fresh = special is None or _begins_anew(plain.tokenizer, special)
    whole = _inner(plain.tokenizer, guarded.replace(plain.guard, ""), fresh)
    if not set(plain.forbidden).intersection(whole):
        return whole
    ids: list[int] = []
    for index, piece in enumerate(guarded.split(plain.guard)):
        ids += _inner(plain.tokenizer, piece, fresh and index == 0)
    if set(plain.forbidden).intersection(ids):
        raise MarkerError(
            "the tokenizer turns plain text into a special token", remedy="take the special token out of the text"
        )
    return ids


def _begins_anew(tokenizer: Any, special: str) -> bool:
    """Whether text after a special token gets the ids it has at the start of a text.

    It does unless the tokenizer treats the start of a text differently, as SentencePiece does with its space.
    """
    return _real(tokenizer, f"{special}a")[1:] == _real(tokenizer, "a")


def _inner(tokenizer: Any, text: str, fresh: bool) -> list[int]:
    """Ids of plain text, as they are at the start of a text (`fresh`) or in the middle of one.

    In the middle means after a line break, which is taken off again; where that changes the break's own ids, the text
    is encoded as it is.
    """
    if fresh:
        return encode_plain(tokenizer, text)
    anchor = encode_plain(tokenizer, _ANCHOR)
    anchored = encode_plain(tokenizer, _ANCHOR + text)
    return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else encode_plain(tokenizer, text)
