"""Whether what a column says is in the prompt."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from triptych_data.formats.columns import listed_text

MARKER = re.compile(r"<image[^<>]*>")
LETTERED = re.compile(r"\A\s*[(\[]?([A-Za-z])[.)\]:\uff1a\u3001\uff0e]\s*")
_NUMBERED = re.compile(r"\A\s*(?:[(\[]?([0-9]{1,2})[.)\]:\uff1a\u3001\uff0e](?![0-9])|([\u2460-\u2473]))\s*")
_NOTHING = {"", "n/a", "none", "null", "nan", "-", "[]", "{}"}
_END = re.compile(r"[.!?\s]+$")
_LETTER = r"[0-9A-Za-z_\u00c0-\u2dff]"
"""Letters of scripts that put spaces between words."""


def says_nothing(text: str) -> bool:
    """Return whether a text is empty or says that there is none, as `N/A` does."""
    return text.strip().casefold() in _NOTHING


def is_written(value: Any, prompt: str) -> bool:
    """Return whether every text in a value, however deep, is in the prompt as whole words.

    Capitals, white space, markers and the stop at the end are not compared.
    """
    whole = _plain(MARKER.sub(" ", prompt))
    return all(_find(_END.sub("", _plain(MARKER.sub(" ", text))), whole) >= 0 for text in texts_in(value))


def are_written(options: list[str], text: str) -> bool:
    """Return whether all options are in the text as whole words: with their letters, or in their order without."""
    whole, place = _plain(text), 0
    if are_lettered(options) and all(_find(_plain(option), whole) >= 0 for option in options):
        return True
    for option in without_letters(options):
        bare = _plain(option)
        found = _find(bare, whole, place)
        if found < 0:
            return False
        place = found + len(bare)
    return True


def without_letters(options: list[str]) -> list[str]:
    """Return the options without the letters or numbers that count them."""
    mark = _NUMBERED if are_numbered(options) else LETTERED
    return [mark.sub("", option, count=1) for option in options]


def are_numbered(options: list[str]) -> bool:
    """Return whether the options begin with numbers that count them from 1: `1.`, `(1)` or a number in a circle."""
    found = [_NUMBERED.match(option) for option in options]
    numbers = [mark and (int(mark[1]) if mark[1] else ord(mark[2]) - 0x245F) for mark in found]
    return bool(options) and numbers == list(range(1, len(options) + 1))


def are_lettered(options: list[str]) -> bool:
    """Return whether options begin with letters in their order, or numbers: `J. Biden` and `D. Trump` do not."""
    letters = [found[1].upper() for option in options if (found := LETTERED.match(option)) is not None]
    in_order = len(letters) == len(options) and all(first < second for first, second in itertools.pairwise(letters))
    return in_order or are_numbered(options)


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in a value, however deep, without those that say nothing."""
    value = listed_text(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_in(inner)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and not says_nothing(str(value)):
        yield str(value)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _find(text: str, whole: str, start: int = 0) -> int:
    """The first place from `start` on at which a text is in another one and cuts no word; -1 where there is none."""
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, text) else ""
    after = rf"(?!{_LETTER})" if re.search(rf"{_LETTER}$", text) else ""
    found = re.compile(before + re.escape(text) + after).search(whole, start)
    return -1 if found is None else found.start()
