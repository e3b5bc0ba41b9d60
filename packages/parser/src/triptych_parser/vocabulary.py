"""What a tokenizer object is asked: its special tokens, ids for text, and ids for text that must stay plain."""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from triptych_parser.backend import encode_texts
from triptych_parser.errors import MarkerError

__all__ = ["Encoded", "Vocabulary", "encode", "encode_guarded", "token_id", "vocabulary_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Ids of a text and, when asked for, the (first, last + 1) character of each."""

    ids: list[int]
    offsets: list[tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The special tokens of a tokenizer: text to id."""

    specials: dict[str, int]
    size: int
    patterns: dict[frozenset[str], re.Pattern[str]] = field(default_factory=dict)

    def pattern(self, *, extra: Collection[str], allowed: Collection[str]) -> re.Pattern[str]:
        """A pattern that finds any special or `extra` token that is not `allowed`; the longest wins."""
        change = frozenset({*extra}.difference(self.specials)) | {f"-{token}" for token in allowed}
        if change not in self.patterns:
            tokens = {token for token in (*self.specials, *extra) if len(token) > 1} - set(allowed)
            longest_first = sorted(tokens, key=lambda token: (-len(token), token))
            self.patterns[change] = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        return self.patterns[change]


_vocabularies: weakref.WeakKeyDictionary[Any, Vocabulary] = weakref.WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The special tokens of a tokenizer, read once and again when its vocabulary grows."""
    size = len(tokenizer)
    try:
        known = _vocabularies.get(tokenizer)
    except TypeError:  # an object that cannot be a weak key is read every time
        return Vocabulary(specials=_special_tokens(tokenizer), size=size)
    if known is None or known.size != size:
        known = Vocabulary(specials=_special_tokens(tokenizer), size=size)
        _vocabularies[tokenizer] = known
    return known


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    specials: dict[str, int] = {}
    for number, token in (getattr(tokenizer, "added_tokens_decoder", None) or {}).items():
        if getattr(token, "special", True):
            specials[str(token)] = int(number)
    for token in getattr(tokenizer, "all_special_tokens", None) or ():
        specials.setdefault(str(token), int(tokenizer.convert_tokens_to_ids(str(token))))
    return specials


def token_id(tokenizer: Any, token: str) -> int:
    """The id of one token; MarkerError when the tokenizer does not have it."""
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or number == getattr(tokenizer, "unk_token_id", None):
        raise MarkerError(
            f"the tokenizer has no token {token}", remedy="add it as a special token, or pass image_token='<...>'"
        )
    return int(number)


def encode(tokenizer: Any, text: str, *, add_special_tokens: bool, offsets: bool = False) -> Encoded:
    """Ids of a whole text; special tokens written in it become special."""
    if offsets:
        return _call(tokenizer, text, offsets, add_special_tokens=add_special_tokens)
    return Encoded(ids=encode_texts(tokenizer, [text], add_special_tokens=add_special_tokens)[0])


def _call(tokenizer: Any, text: str, offsets: bool, **options: Any) -> Encoded:
    if offsets and not getattr(tokenizer, "is_fast", False):
        raise MarkerError(
            f"{type(tokenizer).__name__} does not say which characters a token covers, so text cannot be cut",
            remedy="use the fast tokenizer, or truncate='error'",
        )
    extra = {"return_offsets_mapping": True} if offsets else {}
    result = tokenizer(text, return_attention_mask=False, return_token_type_ids=False, **extra, **options)
    return Encoded(ids=result["input_ids"], offsets=result["offset_mapping"] if offsets else None)


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
    """Ids of a text in which guarded look-alikes of special tokens stay plain text and real ones become special.

    Text without look-alikes is encoded in the longest possible stretches, so that it gets the ids it has in the whole.
    Offsets count in the guarded text.
    """
    out = Encoded(ids=[], offsets=[] if offsets else None)
    begin = 0  # of the stretch that is not encoded yet
    ends = [(found.start(), found.end()) for found in pattern.finditer(text)]
    starts = [0, *(end for _, end in ends)]
    for start, (stop, _) in zip(starts, [*ends, (len(text), len(text))], strict=True):
        if guard not in text[start:stop]:
            continue
        if start > begin:
            _append(
                out,
                encode(tokenizer, text[begin:start], add_special_tokens=add_special_tokens, offsets=offsets),
                begin,
            )
            add_special_tokens = False
        _append(out, _encode_plain(tokenizer, text[start:stop], guard, forbidden, offsets), start)
        begin = stop
    if begin < len(text):
        rest = encode(tokenizer, text[begin:], add_special_tokens=add_special_tokens, offsets=offsets)
        _append(out, rest, begin)
    return out


def _append(out: Encoded, more: Encoded, shift: int) -> None:
    out.ids.extend(more.ids)
    if out.offsets is not None and more.offsets is not None:
        out.offsets.extend((first + shift, last + shift) for first, last in more.offsets)


_ANCHOR = "\n"


def _encode_plain(tokenizer: Any, guarded: str, guard: str, forbidden: Collection[int], offsets: bool) -> Encoded:
    """Ids of a stretch in which nothing is special, with offsets in the guarded stretch.

    Where the tokenizer makes a forbidden id even of plain text, the stretch is encoded in pieces, cut at the guards.
    """
    whole = _encode_inner(tokenizer, guarded.replace(guard, ""), offsets)
    if not set(forbidden).intersection(whole.ids):
        if whole.offsets is None:
            return whole
        kept = [index for index, char in enumerate(guarded) if char != guard] + [len(guarded)]
        return Encoded(ids=whole.ids, offsets=[(kept[first], kept[last]) for first, last in whole.offsets])
    out = Encoded(ids=[], offsets=[] if offsets else None)
    begin = 0
    for piece in guarded.split(guard):
        _append(out, _encode_inner(tokenizer, piece, offsets), begin)
        begin += len(piece) + len(guard)
    if set(forbidden).intersection(out.ids):
        raise MarkerError(
            "the tokenizer turns plain text into a special token", remedy="take the special token out of the text"
        )
    return out


def _encode_inner(tokenizer: Any, text: str, offsets: bool) -> Encoded:
    """Ids of a stretch as they are in the middle of a text.

    The stretch is encoded behind a line break that is taken off again: some tokenizers treat the first characters of a
    text differently. Where that changes the break's own ids, the stretch is encoded as it is.
    """
    options = {"add_special_tokens": False, "split_special_tokens": True}
    anchor = _call(tokenizer, _ANCHOR, False, **options).ids
    anchored = _call(tokenizer, _ANCHOR + text, offsets, **options)
    if anchored.ids[: len(anchor)] != anchor:
        return _call(tokenizer, text, offsets, **options)
    ids = anchored.ids[len(anchor) :]
    if anchored.offsets is None:
        return Encoded(ids=ids)
    shift = len(_ANCHOR)
    spans = [(max(first - shift, 0), max(last - shift, 0)) for first, last in anchored.offsets[len(anchor) :]]
    return Encoded(ids=ids, offsets=spans)
