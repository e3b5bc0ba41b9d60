"""Text that comes from data, made safe to print."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, kept: str = "\n\t") -> str:
    """Return `text` with every character escaped that a terminal would obey or cannot write.

    These are control characters other than those `kept`, lone surrogates, line and paragraph separators, and the marks
    that turn the direction of text. Names of files, images and rows come from data, and data comes from anybody.

    >>> printable("a.png"), printable("\\x1b[2Ja.png")
    ('a.png', '\\\\x1b[2Ja.png')
    """
    if text.isprintable():
        return text
    return "".join(_escaped(one) if one not in kept and _acts(one) else one for one in text)


def _acts(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
