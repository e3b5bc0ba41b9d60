r"""Signs that are written in several ways, and numbers that are part of a larger expression (`√3`, `3x`, `x > 3`)."""

import math
import re

__all__ = ["is_expression", "one_spelling", "plain_powers"]

_MINUS = {ord(sign): "-" for sign in "\u2212\u2013\u2010\u2011\ufe63\uff0d"}
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = re.compile(r"(?<=[\w)])[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_RELATIONS = (
    (re.compile(r"\\geq?(?:slant)?(?![A-Za-z])|>=(?!=)"), "≥"),
    (re.compile(r"\\leq?(?:slant)?(?![A-Za-z])|<=(?![=>])"), "≤"),
    (re.compile(r"\\neq?(?![A-Za-z])|!="), "≠"),
    (re.compile(r"(?:^|(?<=[=:(,]))(\s*)- +(?=[\d.])"), r"\1-"),
)
_POWER = re.compile(r"(?<![\w.,'^{}√)])(-?)(\d{1,15}(?:\.\d{1,15})?) ?(?:\^|\*\*) ?\(?(-?\d{1,3})\)?(?![\d.\w^]|\s?!)")
_FUNCTION = r"(?:log|ln|lg|a?sin|a?cos|a?tan|arc[a-z]{3}|exp|sqrt|root\sof|half\sof|twice|double)"
_ARROW = (
    r"\\(?:boxed|approx|sim|times|cdot|Rightarrow|rightarrow|implies|therefore|to|quad|qquad|circ|degree)(?![A-Za-z])"
)
_EXPRESSION = re.compile(
    rf"""[√∛π∞^] | \b(?:pi|inf|infinity)\b | \\(?!{_ARROW[2:]})[A-Za-z]
    | \d(?![eE][-+]?\d)[A-Za-z](?![A-Za-z]) | \d\s[xyz]\b | \d\s?(?:bn|mn|tn|sqrt|sin|cos|tan|log|ln|exp)\b
    | \d\s(?:dozens?|hundreds?|squared|cubed|factorial|(?:less|more)\sthan)\b | \d\s?[十百千万萬亿億兆成折]
    | \b{_FUNCTION}\b[\s(_]{{0,3}}[-+]?\d
    | (?<![-=<])[<>≤≥≠]\s?[-+]?[\d.] | \d\s?[<>≤≥≠](?!\w)\s?\w
    | (?<![A-Za-z'])[A-Za-z](?:\s?[+*/×÷]\s?|-|\s-\s)\d
    | \d\s?[-+*/×÷]\s?(?![aAI]\b)[A-Za-z]\b | \d[-+*/×÷][aAI]\b | \d\s?(?:[+*/×÷]\s?|-)\(""",
    re.VERBOSE,
)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,40}>")


def one_spelling(text: str) -> str:
    r"""Return a text in which minus signs, powers (`x²`) and relations (`\geq`, `>=`) have one spelling."""
    if text.isascii() and not ("\\" in text or "=" in text or "-" in text):
        return text
    text = _RAISED.sub(lambda match: f"^{match.group().translate(_SUPERSCRIPT)}", text.translate(_MINUS))
    for pattern, sign in _RELATIONS:
        text = pattern.sub(sign, text)
    return text


def is_expression(text: str) -> bool:
    """Return whether a number of a text has another value by what is next to it: a root, a variable, a relation.

    Expects the text as `plain_text` and `plain_digits` return it.
    """
    return _EXPRESSION.search(_TAG.sub(" ", text)) is not None


def plain_powers(text: str) -> str:
    """Return a text with the powers of two numbers worked out: `10^3` as `1000`."""
    return _POWER.sub(_power, text) if "^" in text or "**" in text else text


def _power(match: re.Match[str]) -> str:
    sign, base, exponent = match.groups()
    try:
        value = math.pow(float(base), int(exponent))
    except (OverflowError, ValueError, ZeroDivisionError):
        return match.group()
    if value == int(value) and value < 1e15:
        return f"{sign}{int(value)}"
    behind_a_slash = match.string[: match.start()].rstrip().endswith("/")
    return match.group() if behind_a_slash else f"{sign}{value!r}"
