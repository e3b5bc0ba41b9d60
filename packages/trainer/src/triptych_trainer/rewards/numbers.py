"""The one number of a text, in digits or in English words."""

import math
import re

from triptych_trainer.rewards.expressions import plain_powers

__all__ = ["is_number", "only_number", "plain_digits"]

_NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[\u00a0\u202f'\u2019]\d{3})+(?!\d)|\d+)"
    r"(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?: \d+/\d+(?![\d/]))?(?: {0,2}/ {0,2}\d+)? {0,2}"
    r"(?:%|(?:thousand|million|billion|trillion)\b)?",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"\s*[-+\u2212]?\d{1,3}(?: \d{3})+(?:\.\d+)?\s*")
"""A whole text whose thousands are separated: inside a sentence `5 200` may be two numbers."""
_POWER_OF_TEN = re.compile(r"(?<=\d) ?(?:[x*\u00d7\u00b7]|\\times|\\cdot) ?10 ?\^ ?\{?([-+]?\d{1,3})\}?(?!\d)")
_PERCENT = re.compile(r"(?<=\d) ?(?:percent|per cent|pct)\b", re.IGNORECASE)
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8"}
_MARKS = {ord(mark): None for mark in ",'\u00a0\u202f\u2019"} | {0x2212: "-"}
_LARGE = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {**{word: k for k, word in enumerate(_SMALL)}, **{word: 20 + 10 * k for k, word in enumerate(_TENS)}}
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_WORD = "|".join([*_VALUES, "hundred", *_SCALES])
_PART = r"-\w+|\s(?:half|halves|thirds?|quarters?|fifths?|sixths?|eighths?|tenths?|dozens?)\b"
_WORDS = re.compile(
    rf"\b(?:(minus|negative)\s)?((?:{_WORD})(?:(?:[\s-]|,\s|\sand\s)(?:{_WORD})\b)*)\b({_PART})?", re.IGNORECASE
)
_ALSO = re.compile(rf"\b(?:{_WORD})\s(?:or|and)\s\d|\d\s(?:or|and)\s(?:{_WORD})\b", re.IGNORECASE)


def only_number(text: str) -> tuple[float, bool] | None:
    """Return (value, has a percent sign) if the text contains one number, or one number repeated, else None.

    Words count where there are no digits: `three`, `twenty-one`, `two hundred and five`; `one` counts only as the
    first word, because elsewhere it is mostly none (`the red one`).
    """
    text = plain_digits(text)
    found = {_value(match.group()) for match in _NUMBER.finditer(text)}
    if found:
        (value, percent), *others = found
        return None if others or math.isnan(value) or _ALSO.search(text) else (value, percent)
    words = _in_words(text)
    return (words.pop(), False) if len(words) == 1 else None


def is_number(text: str) -> bool:
    """Say whether a text is a number and nothing else."""
    body = plain_digits(text.strip().rstrip("."))
    return bool(_NUMBER.fullmatch(body) or _WORDS.fullmatch(body)) and only_number(body) is not None


def _value(text: str) -> tuple[float, bool]:
    percent = text.rstrip().endswith("%")
    number, *words = text.rstrip(" %").translate(_MARKS).split()
    scale = _LARGE[words.pop().lower()] if words and words[-1].lower() in _LARGE else 1.0
    whole, part = (number, "".join(words)) if "/" not in number and words and words[0][0] != "/" else ("0", "")
    number, _, divisor = (part or "".join([number, *words])).partition("/")
    denominator = float(divisor) if divisor.strip() else 1.0
    if not denominator:
        return math.nan, percent
    sign = -1.0 if whole.startswith("-") else 1.0
    return (float(whole) + sign * float(number) / denominator) * scale, percent


def plain_digits(text: str) -> str:
    """Return a text with `½`, `percent` and `10^3` as `1/2`, `%` and `1000`, and a lone number's thousands together."""
    text = plain_powers(_POWER_OF_TEN.sub(r"e\1", _PERCENT.sub("%", text)))
    for sign, fraction in _VULGAR.items():
        if sign in text:
            text = re.sub(rf"(?<=\d)\s?{sign}", f" {fraction}", text).replace(sign, fraction)
    return text.replace(" ", "") if _GROUPED.fullmatch(text) else text


def _in_words(text: str) -> set[float]:
    """The numbers that words write; those that count parts (`two thirds`, `two dozen`, `three-legged`) are left out."""
    found: set[float] = set()
    for match in _WORDS.finditer(text):
        minus, words, part = match.groups()
        pronoun = words.lower() == "one" and bool(re.search(r"\w", text[: match.start()]))
        if part is None and not pronoun:
            found |= {-value if minus else value for value in _values(re.split(r"[\s,-]+(?:and\s+)?", words.lower()))}
    return found


def _values(words: list[str]) -> list[float]:
    """Join number words as English does, and begin a new number where they cannot be joined (`two three`)."""
    values: list[float] = []
    total, part, scale = 0, None, math.inf
    for word in words:
        small, joined = _VALUES.get(word), part
        if small is not None:
            fits = part is None or part % 100 == 0 < part or (part % 10 == 0 < small < 10 and part % 100 >= 20)
            joined = (part or 0) + small if fits else small
        elif word == "hundred":
            fits = part is None or 0 < part < 100
            joined = 100 * (part or 1) if fits else 100
        else:
            fits = _SCALES[word] < scale
        if not fits:
            values.append(total + (part or 0))
            total, part, scale = 0, None, math.inf
        if word in _SCALES:
            total, joined, scale = total + (part or 1) * _SCALES[word], None, _SCALES[word]
        part = joined
    return [*values, total + (part or 0)]
