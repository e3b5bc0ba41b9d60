"""Text that a model can write as JSON, and that no tokenizer and no file takes: halves of characters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["storable", "whole_characters"]


def whole_characters(text: str) -> str:
    r"""Return the text with U+FFFD in the place of every half of a character, and both halves of one as that character.

    >>> whole_characters("a\ud83d\ude00b\ud800")
    'a😀b�'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of the model in whole characters, with its calls.

    Raises:
        RecursionError: its calls are nested too deeply to be written down.
    """
    text = json.dumps(message, ensure_ascii=False)
    whole = whole_characters(text)
    return dict(message) if whole == text else dict(json.loads(whole))
