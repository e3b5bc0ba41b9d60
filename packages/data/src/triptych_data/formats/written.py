"""Whether what a column says is in the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from triptych_data.formats.columns import listed_text

MARKER = re.compile(r"<image[^<>]*>")
LETTERED = re.compile(r"\s*\(?([A-Za-z])[.):\uff1a\u3001\uff0e]\s*")
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
    if all(LETTERED.match(option) and _find(_plain(option), whole) >= 0 for option in options):
        return True
    for option in options:
        bare = _plain(LETTERED.sub("", option, count=1))
        found = _find(bare, whole, place)
        if found < 0:
            return False
        place = found + len(bare)
    return True


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
