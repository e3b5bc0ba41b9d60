"""Ids of a text in which look-alikes of special tokens, broken by a guard character, stay plain text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from triptych_parser.errors import MarkerError
from triptych_parser.vocabulary import Encoded, call, encode

__all__ = ["encode_guarded"]

_ANCHOR = "\n"
_PLAIN: Mapping[str, Any] = {"add_special_tokens": False, "split_special_tokens": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """How text that must stay plain is encoded."""

    tokenizer: Any
    guard: str
    forbidden: Collection[int]
    offsets: bool


def encode_guarded(
    tokenizer: Any,
    text: str,
    *,
    guard: str,
    pattern: re.Pattern[str],
    forbidden: Collection[int],
    add_special_tokens: bool,
    offsets: bool = False,
) -> Encoded:
    """Encode a guarded text; special tokens that stand in it unbroken become special.

    Text without look-alikes is encoded in the longest possible stretches, so that it gets the ids it has in the whole.
    Offsets count in the guarded text.
    """
    plain = _Plain(tokenizer=tokenizer, guard=guard, forbidden=forbidden, offsets=offsets)
    out = Encoded(ids=[], offsets=[] if offsets else None)
    before, after = _frame(tokenizer) if add_special_tokens else ([], [])
    _append(out, _without_text(before, offsets), 0)
    done, start, special = 0, 0, None
    for found in [*pattern.finditer(text), None]:
        stop = found.start() if found else len(text)
        if guard in text[start:stop]:
            _append(out, _real(plain, text[done:start]), done)
            _append(out, _stretch(plain, text[start:stop], special), start)
            done = stop
        if found:
            start, special = found.end(), found[0]
    _append(out, _real(plain, text[done:]), done)
    _append(out, _without_text(after, offsets), len(text))
    return out


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special ids that the tokenizer puts before and after a text."""
    bare = encode(tokenizer, "a", add_special_tokens=False).ids
    framed = encode(tokenizer, "a", add_special_tokens=True).ids
    at = next(at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
    return framed[:at], framed[at + len(bare) :]


def _without_text(ids: list[int], offsets: bool) -> Encoded:
    return Encoded(ids=ids, offsets=[(0, 0)] * len(ids) if offsets else None)


def _append(out: Encoded, more: Encoded, shift: int) -> None:
    out.ids.extend(more.ids)
    if out.offsets is not None and more.offsets is not None:
        out.offsets.extend((first + shift, last + shift) for first, last in more.offsets)


def _real(plain: _Plain, text: str) -> Encoded:
    """Ids of text in which what looks special is special."""
    if not text:
        return _without_text([], plain.offsets)
    return encode(plain.tokenizer, text, add_special_tokens=False, offsets=plain.offsets)


def _stretch(plain: _Plain, guarded: str, special: str | None) -> Encoded:
    """Ids of a stretch in which nothing is special; `special` is the token before it, None at the start of the text.

    Where the tokenizer makes a forbidden id even of plain text, the stretch is encoded in pieces, cut at the guards.
    """
    fresh = special is None or _begins_anew(plain.tokenizer, special)
    whole = _inner(plain, guarded.replace(plain.guard, ""), fresh)
    if not set(plain.forbidden).intersection(whole.ids):
        if whole.offsets is None:
            return whole
        kept = [index for index, char in enumerate(guarded) if char != plain.guard] + [len(guarded)]
        return Encoded(ids=whole.ids, offsets=[(kept[first], kept[last]) for first, last in whole.offsets])
    out = _without_text([], plain.offsets)
    begin = 0
    for piece in guarded.split(plain.guard):
        _append(out, _inner(plain, piece, fresh and begin == 0), begin)
        begin += len(piece) + len(plain.guard)
    if set(plain.forbidden).intersection(out.ids):
        raise MarkerError(
            "the tokenizer turns plain text into a special token", remedy="take the special token out of the text"
        )
    return out


def _begins_anew(tokenizer: Any, special: str) -> bool:
    """Whether text after a special token gets the ids it has at the start of a text.

    It does unless the tokenizer treats the start of a text differently, as SentencePiece does with its space.
    """
    after = encode(tokenizer, f"{special}a", add_special_tokens=False).ids
    return after[1:] == encode(tokenizer, "a", add_special_tokens=False).ids


def _inner(plain: _Plain, text: str, fresh: bool) -> Encoded:
    """Ids of plain text, as they are at the start of a text (`fresh`) or in the middle of one.

    In the middle means behind a line break, which is taken off again; where that changes the break's own ids, the text
    is encoded as it is.
    """
    if fresh:
        return call(plain.tokenizer, text, offsets=plain.offsets, **_PLAIN)
    anchor = call(plain.tokenizer, _ANCHOR, **_PLAIN).ids
    anchored = call(plain.tokenizer, _ANCHOR + text, offsets=plain.offsets, **_PLAIN)
    if anchored.ids[: len(anchor)] != anchor:
        return call(plain.tokenizer, text, offsets=plain.offsets, **_PLAIN)
    ids = anchored.ids[len(anchor) :]
    if anchored.offsets is None:
        return Encoded(ids=ids)
    shift = len(_ANCHOR)
    spans = [(max(first - shift, 0), max(last - shift, 0)) for first, last in anchored.offsets[len(anchor) :]]
    return Encoded(ids=ids, offsets=spans)
