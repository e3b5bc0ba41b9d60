"""What a tokenizer object is asked: its special tokens, ids for text, and ids for text that must stay plain."""

from __future__ import annotations

import re
from typing import Any

from triptych_parser.errors import MarkerError

__all__ = ["encode", "encode_guarded", "special_tokens", "token_id"]


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Every token that the tokenizer treats as special, with its id."""
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


def encode(tokenizer: Any, text: str, *, add_special_tokens: bool) -> list[int]:
    """Ids of a whole text; special tokens written in it become special."""
    ids: list[int] = tokenizer(
        text, add_special_tokens=add_special_tokens, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return ids


def encode_guarded(
    tokenizer: Any,
    text: str,
    *,
    guard: str,
    pattern: re.Pattern[str],
    specials: dict[str, int],
    add_special_tokens: bool,
) -> list[int]:
    """Ids of a text in which guarded look-alikes of special tokens stay plain text and real ones become special."""
    ids: list[int] = []
    whole: list[str] = []  # text without look-alikes, encoded in one go as the processor would

    def flush() -> None:
        nonlocal add_special_tokens
        if whole:
            ids.extend(encode(tokenizer, "".join(whole), add_special_tokens=add_special_tokens))
            whole.clear()
            add_special_tokens = False

    cursor = 0
    for found in [*pattern.finditer(text), None]:
        stop = found.start() if found else len(text)
        piece = text[cursor:stop]
        if guard in piece:
            flush()
            ids += _encode_plain(tokenizer, piece.replace(guard, ""), frozenset(specials.values()))
        else:
            whole.append(piece)
        if found:
            whole.append(found[0])
            cursor = found.end()
    flush()
    return ids


def _encode_plain(tokenizer: Any, text: str, forbidden: frozenset[int]) -> list[int]:
    """Ids of a text in which nothing is special."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not forbidden.intersection(ids):
        return ids
    raise MarkerError("the tokenizer turns plain text into a special token", remedy="remove it from the text")
