"""What a tokenizer object is asked: its special tokens, ids for text, and ids for text that must stay plain."""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from triptych_parser.errors import MarkerError

__all__ = ["Vocabulary", "encode_plain", "token_id", "vocabulary_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Contains the special tokens of a tokenizer: text to id."""

    specials: dict[str, int]
    size: int
    patterns: dict[frozenset[str], re.Pattern[str]] = field(default_factory=dict)

    def pattern(self, *, extra: Collection[str], allowed: Collection[str]) -> re.Pattern[str]:
        """Return a pattern that finds any special or `extra` token that is not `allowed`; the longest wins."""
        change = frozenset({*extra}.difference(self.specials)) | {f"-{token}" for token in allowed}
        if change not in self.patterns:
            tokens = {token for token in (*self.specials, *extra) if len(token) > 1} - set(allowed)
            longest_first = sorted(tokens, key=lambda token: (-len(token), token))
            self.patterns[change] = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        return self.patterns[change]


_vocabularies: weakref.WeakKeyDictionary[Any, Vocabulary] = weakref.WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """Return the special tokens of a tokenizer, which are read once, and again when its vocabulary grows."""
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
    """Return the id of one token; raise MarkerError when the tokenizer does not have it."""
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or number == getattr(tokenizer, "unk_token_id", None):
        raise MarkerError(
            f"the tokenizer has no token {token}", remedy="add it as a special token, or pass image_token='<...>'"
        )
    return int(number)


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """Encode a text in which nothing is special to ids, by the tokenizer's own call."""
    options = {"return_attention_mask": False, "return_token_type_ids": False}
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, **options)["input_ids"])
