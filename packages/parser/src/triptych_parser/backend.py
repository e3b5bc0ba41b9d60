"""The shortest way from text to ids that gives the ids of the tokenizer's own call.

A fast tokenizer of transformers hands its text to a Rust object and asks it for character offsets too, which nobody
here reads and which cost about as much as the ids. Where nothing of that call is overridden, the Rust object is asked
directly, for ids only.
"""

from __future__ import annotations

from typing import Any

__all__ = ["encode_texts"]

_CALLS = ("__call__", "_call_one", "encode", "_encode_plus", "_batch_encode_plus")
_STOCK = "transformers.tokenization_utils"


def encode_texts(tokenizer: Any, texts: list[str], *, add_special_tokens: bool) -> list[list[int]]:
    """Encode each text to ids; special tokens written in it become special."""
    backend = _backend(tokenizer)
    if backend is not None:
        return [list(item.ids) for item in backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)]
    options = {"return_attention_mask": False, "return_token_type_ids": False}
    if len(texts) == 1:
        return [list(tokenizer(texts[0], add_special_tokens=add_special_tokens, **options)["input_ids"])]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=add_special_tokens, **options)["input_ids"]]


def _backend(tokenizer: Any) -> Any:
    """The Rust tokenizer when its ids are the call's ids: a stock call, and nothing left over from another one.

    A call with padding, truncation or `split_special_tokens` leaves them set; the tokenizer's own call undoes that.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "encode_batch_fast") or not _is_stock(type(tokenizer)):
        return None
    plain = not getattr(tokenizer, "split_special_tokens", False) and not backend.encode_special_tokens
    return backend if plain and backend.padding is None and backend.truncation is None else None


def _is_stock(cls: type) -> bool:
    """Whether every method on the way from text to ids is the one of transformers' base classes."""
    owners = (next((base for base in cls.__mro__ if name in vars(base)), None) for name in _CALLS)
    return all(owner is None or owner.__module__.startswith(_STOCK) for owner in owners)
