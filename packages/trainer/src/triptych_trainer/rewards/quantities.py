"""A number with its unit, currency or counted noun: `12 cm`, `$5`, `3 apples`. Pure; text is never an error."""

import math
import re
import unicodedata
from dataclasses import dataclass

from triptych_trainer.rewards.latex import plain_text
from triptych_trainer.rewards.numbers import only_number, plain_digits

__all__ = ["Quantity", "quantity", "same_quantity"]

_WORDS = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "dm": "decimeter decimetre", "m": "meter metre",
    "km": "kilometer kilometre", "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile",
    "mg": "milligram", "g": "gram gramme", "kg": "kilogram kilo", "t": "ton tonne", "lb": "pound", "oz": "ounce",
    "ms": "millisecond", "s": "second sec", "min": "minute", "h": "hour hr", "d": "day", "wk": "week", "mo": "month",
    "yr": "year", "ml": "milliliter millilitre", "l": "liter litre", "degree": "degree deg", "c": "celsius",
    "f": "fahrenheit", "k": "kelvin", "mph": "mph", "hz": "hertz", "n": "newton", "j": "joule", "w": "watt",
    "kw": "kilowatt", "v": "volt", "a": "ampere amp", "pa": "pascal", "unit": "unit", "am": "a.m", "pm": "p.m",
    "$": "dollar usd us$ buck", "€": "euro eur", "£": "gbp quid", "¥": "yen yuan rmb jpy cny", "₹": "rupee inr",
    "¢": "cent",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _WORDS.items() for word in (unit, *words.split())}
_CURRENCIES = "$€£¥₹"
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}
_NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?: ?/ ?\d+)?"
_WHOLE = re.compile(
    rf"([-+]?)([{_CURRENCIES}]?)\s?({_NUMBER})(\s?%|\s(?:thousand|million|billion|trillion)\b)?(\s*)(.*)"
)
_BEHIND = re.compile(rf"({_NUMBER})(\s?)([^\s\d,;.]+(?: ?\^ ?\d)?)")
_NOUNS = re.compile(r"[a-z]{3,}(?: [a-z]{3,})?")
_NO_NOUNS = re.compile(r"\b(?:and|or|half|dozen|hundred|thousand|than|not|the|left|right|more|less)\b")
_SINGLE = frozenset("ampxyznkcfvwjlstghd")
_CIRCLE = re.compile(r"(\d)\s*(?:°|\^?\{?\\circ\}?|\\degree)\s*([CF]\b)?")
_DOLLARS = re.compile(r"(?<![\\$\d])\\?\$\s?(?=[\d.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Contains a number that a text says, and what it counts."""

    value: float
    is_percent: bool
    unit: str | None
    """In one spelling: `cm`, `cm^2`, `km/h`, `$`, or a noun in the singular; None where there is none."""
    is_known: bool
    """Whether the unit is one of measure or currency, and not a noun."""


def quantity(text: str) -> Quantity | None:
    """Read a text that is a number and its unit and nothing else."""
    match = _WHOLE.fullmatch(plain_digits(_plain(text)))
    if match is None:
        return None
    sign, currency, digits, scale, space, rest = match.groups()
    found = only_number(f"{sign}{digits}{scale or ''}")
    if found is None:
        return None
    value, is_percent = found
    unit, is_known = _unit(rest, spaced=bool(space))
    if rest and unit is None:
        return None
    if currency:
        if unit is not None and unit != currency:
            return None
        unit, is_known = currency, True
    return Quantity(value=value, is_percent=is_percent, unit=unit, is_known=is_known)


def same_quantity(answer: str, expected: str) -> bool:
    """Compare with an expected quantity: the number must be equal, and the unit where the answer gives one.

    No unit is converted: `0.12 m` is not `12 cm`.
    """
    wanted = quantity(expected)
    got = quantity(answer) or _in_sentence(answer)
    if wanted is None or got is None:
        return False
    if wanted.is_percent != got.is_percent and (wanted.unit or got.unit):
        return False
    is_other = wanted.unit is not None and got.unit is not None and wanted.unit != got.unit
    return not is_other and math.isclose(got.value, wanted.value, rel_tol=1e-6, abs_tol=1e-12)


def _in_sentence(text: str) -> Quantity | None:
    """The one number of a text, with the unit of measure right behind or before it."""
    plain = _plain(text)
    found = only_number(plain)
    if found is None:
        return None
    unit: str | None = None
    for match in _BEHIND.finditer(plain):
        named, is_known = _unit(match[3], spaced=bool(match[2]))
        is_word = match[3] in ("in", "a", "am", "s") and match.end() < len(plain)
        unit = named if is_known and not is_word else unit
    if before := re.search(rf"([{_CURRENCIES}])\s?{_NUMBER}", plain):
        unit = before[1]
    return Quantity(value=found[0], is_percent=found[1], unit=unit, is_known=unit is not None)


def _plain(text: str) -> str:
    """The text with `$` of an amount kept, as `plain_text` would take it for LaTeX, and units in plain letters."""
    marked = _DOLLARS.sub("\ue000", text) if text.count("$") % 2 else text.replace("\\$", "\ue000")
    marked = _CIRCLE.sub(lambda match: f"{match[1]} degree{' ' + match[2] if match[2] else ''}", marked)
    plain = unicodedata.normalize("NFKC", plain_text(marked).replace("²", "^2").replace("³", "^3"))
    return " ".join(plain.replace("\ue000", "$").replace("\u2212", "-").split()).strip().rstrip(".!").strip("`*\"' ")


def _unit(text: str, *, spaced: bool) -> tuple[str | None, bool]:
    """(unit in one spelling, whether it is one of measure); a noun counts if it is written as one."""
    text = text.strip().removeprefix("(").removesuffix(")").rstrip(".").strip()
    if not text or (len(text) == 1 and not spaced and text.lower() in _SINGLE):
        return None, False
    known = _measure(text)
    if known is not None:
        return known, True
    if spaced and _NOUNS.fullmatch(text) and not _NO_NOUNS.search(text):
        return _singular(text), False
    return None, False


def _measure(text: str) -> str | None:
    parts = re.split(r"\s?/\s?|\sper\s", text)
    names = [_one_measure(part) for part in parts]
    return None if len(parts) > 2 or None in names else "/".join(name for name in names if name)


def _one_measure(text: str) -> str | None:
    words = text.replace("-", " ").split(" ")
    power = ""
    if words[0].lower() in _POWERS:
        power, words = _POWERS[words[0].lower()], words[1:]
    if words[-1:] and words[-1].lower() in ("squared", "cubed"):
        power, words = ("^2" if words[-1].lower() == "squared" else "^3"), words[:-1]
    if words[:1] == ["degree"] and len(words) == 2:
        words = words[1:]
    if len(words) != 1:
        return None
    name, caret, exponent = words[0].partition("^")
    if caret:
        power = f"^{exponent.strip()}"
    found = _UNITS.get(name) or _UNITS.get(name.lower()) or _UNITS.get(_singular(name.lower()))
    return None if found is None else found + power


def _singular(text: str) -> str:
    return text[:-1] if text.endswith("s") and len(text) > 3 else text
