"""Compare an answer with the expected one: exact, numeric, choice, yes/no, math. Pure; 1.0 is right, 0.0 is wrong.

An answer that names two different candidates ("A or B", "3 or 4") is wrong in every mode: hedging must not pay.
"""

import functools
import importlib.util
import logging
import math
import re
import signal
import threading
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from triptych_trainer.rewards.expressions import is_expression, one_spelling
from triptych_trainer.rewards.latex import plain_text
from triptych_trainer.rewards.literals import whole_literal
from triptych_trainer.rewards.numbers import is_number, only_number, plain_digits
from triptych_trainer.rewards.quantities import quantity, same_quantity
from triptych_trainer.rewards.wrapping import without_fence

Matcher = Callable[[str, str], bool]
LONGEST_MATH = 2_000
MATH_SECONDS = 5

_LEADING_CHOICE = re.compile(r"\s*[(\[]?([A-Z])(?:[)\].:,]|\s*$)", re.IGNORECASE)
_NAMED_CHOICE = re.compile(r"\b(?:answer|option|choice)\s{0,4}(?:is|:)?\s{0,4}[(\[]?([A-Z])\b", re.IGNORECASE)
_LONE_CAPITAL = re.compile(r"(?<![\w'])([B-HJ-Z]|[AI](?!\s+(?!or\b|and\b)[a-z]))(?![\w'])")  # not the article, not "I"
_ANOTHER_CHOICE = re.compile(r"\W*(?:or|and|[/,&+])\W*([A-Z])\b", re.IGNORECASE)
_FURTHER_CHOICE = re.compile(
    r"[)\]]?\s*(?:(?:(?i:or|and|nor|maybe|perhaps|possibly|also|no|option|choice)\b|[/,&+;|?(\[、]|或|和)\s*)*"
    r"(?:\s(?=[B-HJ-Z]\s*(?:[.,;]|$)))?[(\[]?([A-HJ-Z])(?![\w'])"
    r"(?!(?:\s*(?:,|\b(?i:and|or)\b)+\s*[A-J]\b)*\s+(?i:is|are|was|were|do|does|can|cannot|shows?)\b)"
)
_OR_ANOTHER = re.compile(
    r"[)\].:]{0,2}(?:(?!\b(?i:because|since|as|rather|instead|not|than)\b)[^.;\n]){0,80}?"
    r"\b(?i:or)\s+(?:(?i:option|choice)\s+)?(?:[(\[]([A-J])[)\]]|([A-J])\.\s+\S)"
)
"""Another letter right behind the one that an answer names, or behind its text: `(A) cat or (B) dog`."""
_EITHER = re.compile(r"[\d})$]\s*,?\s+or\s+(?:[A-Za-z]\s*=\s*)?[-\\$({]*\d")
_LETTERED = re.compile(r"\s*[(\[]?[A-H][)\].:]+\s+(\S.*)", re.DOTALL)
_SEVERAL_CHOICES = re.compile(
    r"[(\[]?[A-J][)\]]?(?:(?:\s*[,;&/]\s*|\s+|\s*,?\s*and\s+)[(\[]?[A-J][)\]]?)+\.?|[A-J]{2,}\.?"
)
_ASSIGNED = re.compile(r"\s*([A-Za-z]\w{0,2})\s*=\s*([^=]+)")
_SPACING = re.compile(r"\s*([,;:=()\[\]{}<>≤≥≠+*/×÷])\s*|(?<=\w)\s(-)\s(?=\w)|(?<=\d)\s+(?=[a-z°%])")
_ROOT = re.compile(r"\\sqrt\s*(?:\{\s*(\w+)\s*\}|(\w))|(?:√|\bsqrt)\s*\(\s*(\w+)\s*\)|√\s?(\d+|\w)")
_FACTOR = re.compile(r"(?<=[\d)])\s*[*·×]?\s*(?=[√π])")
_NAMED_SIGNS = (("\\times", "×"), ("\\cdot", "·"), ("\\div", "÷"), ("\\pi", "π"))
_UNIT_BEHIND = re.compile(r"(?<=\d)(?=[A-Za-z](?![A-Za-z]))")
_UNSEEN = re.compile("[\u200b\u200c\u200d\u2060\ufeff]")
_WORD = r"zero|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|\w+ty|hundred|[-+\u2212]?[.\d]"
_DENIED = re.compile(
    rf"(?i:\b(?:not|no|never|than|at\s+least|at\s+most|over|under|above|below|up\s+to)|n['\u2019]t)\s+"
    rf"(?i:exactly\s+|equal\s+to\s+)?(?:(?:(?i:option)\s+)?[(\[]?[A-Z]\b|(?:{_WORD}))"
)
"""A word that denies, or only bounds, the number or the letter behind it."""
_DENIED_BEHIND = re.compile(
    r"(?<!\w)(?:[A-Z]|[-\d.,]*\d)[)\].]?\s+(?i:is|was)(?i:\s+\w+ly)?\s+(?i:not|wrong|incorrect|false)\b"
    r"|(?<!\w)(?:[A-Z]|[-\d.,]*\d)[)\].]?\s+(?i:isn['\u2019]t|wasn['\u2019]t|cannot|can['\u2019]t)\b"
    r"|(?:不是|并非|没有|大于|小于|超过|低于|高于|至少|至多|多于|少于|不到|不选|[不非除])\s*[(\[（]?[A-Z\d]"
    r"|[A-Z\d][)\]）]?\s*(?:是)?(?:不是|不对|不正确|错|以上|以下|除外)"
)
"""The same where the word follows (`B is wrong`), and in Chinese."""
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_BOTH = re.compile(r"\b(yes\W+(or|and)\W+no|no\W+(or|and)\W+yes|not\W+(yes|no))\b|\b(yes/no|no/yes)\b", re.IGNORECASE)


def same_text(answer: str, expected: str) -> bool:
    """Compare without case, surrounding quotes, final punctuation, LaTeX's layout, and spaces next to punctuation."""
    return _plain(answer) == _plain(expected)


def same_number(answer: str, expected: str, *, relative_tolerance: float = 1e-6) -> bool:
    """Compare the only number of each text: `1,234` equals `1234`, `1/2` `0.5`, `50%` `50` and `0.5`, `three` `3`."""
    got, wanted = only_number(plain_text(answer)), only_number(plain_text(expected))
    if got is None or wanted is None or _says_more(answer, expected):
        return False
    (value, percent), (target, target_percent) = got, wanted
    values = [value, value / 100] if percent and not target_percent else [value]
    targets = [target, target / 100] if target_percent and not percent else [target]
    return any(math.isclose(a, b, rel_tol=relative_tolerance, abs_tol=1e-12) for a in values for b in targets)


def same_choice(answer: str, expected: str) -> bool:
    """Compare option letters: `B`, `(b)`, `B. the cat`, `The answer is B`."""
    letter = choice_letter(plain_text(answer))
    if letter is None or (_is_denied(answer) and not _is_denied(expected)):  # letters are no expressions
        return False
    return letter == choice_letter(plain_text(expected))


def same_option(answer: str, expected: str) -> bool:
    """Compare with an option that is written with its letter and its text (`B. the cat`): either of them is enough."""
    text = _LETTERED.match(plain_text(expected))
    return same_choice(answer, expected) or (text is not None and same_text(answer, text[1]))


def same_yes_no(answer: str, expected: str) -> bool:
    """Compare `yes` and `no`: the first word decides, else the only one of the two that occurs."""
    word = yes_or_no(plain_text(answer))
    return word is not None and word == yes_or_no(plain_text(expected))


def same_math(answer: str, expected: str) -> bool:
    """Compare as mathematics with math-verify; raises ValueError saying how to install it.

    What takes longer than `MATH_SECONDS` to read or to compare is wrong; the limit applies in the main thread only
    (it is a signal), where TRL calls plain reward functions.
    """
    if not math_verify_installed():
        raise ValueError("the mode 'math' needs the package math-verify: run `pip install math-verify`")
    if len(answer) > LONGEST_MATH or (_EITHER.search(answer) and not _EITHER.search(expected)):
        return False
    parse, verify = _math_verify()
    can_be_interrupted = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    limit = MATH_SECONDS if can_be_interrupted else None
    gold, got = (parse(_as_latex(text), parsing_timeout=limit) for text in (expected, answer))
    return bool(verify(gold, got, timeout_seconds=limit))


def same_any(answer: str, expected: str) -> bool:
    """Compare by what the expected answer looks like: yes/no, an option letter, a number, LaTeX, else text."""
    return same_text(answer, expected) or looks_like(expected)(answer, expected)


def same_measure(answer: str, expected: str) -> bool:
    """Compare with an expected number that has a unit (see `same_quantity`)."""
    apart = _UNIT_BEHIND.sub(" ", answer)
    return same_quantity(apart, expected) and not _says_more(apart, expected)


def same_object(answer: str, expected: str) -> bool:
    """Compare two objects, written as JSON or as Python does: equal keys, in any order, with values that agree."""
    wanted = whole_literal(expected)
    return isinstance(wanted, dict) and _same_value(whole_literal(without_fence(answer)), wanted)


def _same_value(answer: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        same_keys = isinstance(answer, dict) and answer.keys() == expected.keys()
        return same_keys and all(_same_value(answer[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        same_length = isinstance(answer, list) and len(answer) == len(expected)
        return same_length and all(_same_value(*pair) for pair in zip(answer, expected, strict=True))
    if isinstance(expected, str):
        return isinstance(answer, str) and same_text(answer, expected)
    return type(answer) is not bool and answer == expected if type(expected) is not bool else answer is expected


def same_side(answer: str, expected: str) -> bool:
    """Compare with an expected `x = 12`: the right side is enough, another name on the left is not."""
    wanted, got = (_ASSIGNED.fullmatch(plain_text(text).strip()) for text in (expected, answer))
    if wanted is None or (got is not None and got[1] != wanted[1]):
        return False
    return same_any(answer if got is None else got[2], wanted[2])


def same_choices(answer: str, expected: str) -> bool:
    """Compare several option letters in their order, however they are joined: `A, C`, `A and C`, `AC`."""
    wanted, got = (_SEVERAL_CHOICES.fullmatch(plain_text(text).strip()) for text in (expected, answer))
    return wanted is not None and got is not None and _letters(wanted[0]) == _letters(got[0])


def _letters(text: str) -> list[str]:
    return re.findall(r"[A-J]", text.replace("and", ""))


def looks_like(expected: str) -> Matcher:
    """Return the matcher that fits the form of an expected answer."""
    text = plain_text(expected).strip()
    if text.startswith("{") and isinstance(whole_literal(text), dict):
        return same_object
    if text.lower().rstrip(".") in ("yes", "no"):
        return same_yes_no
    if re.fullmatch(r"[(\[]?[A-Z][)\].:]?", text):
        return same_choice
    if _LETTERED.match(text):
        return same_option
    measured = quantity(expected)
    if measured is not None and measured.unit is not None:
        return same_measure
    if is_number(text):
        return same_number
    if _ASSIGNED.fullmatch(text):
        return same_side
    if _SEVERAL_CHOICES.fullmatch(text):
        return same_choices
    if ("\\" in text or "$" in expected or "√" in text) and math_verify_installed():
        return same_math
    return same_text


def choice_letter(text: str) -> str | None:
    """Return the option letter in upper case if the text names exactly one, else None."""
    rest = text.strip()
    if leading := _LEADING_CHOICE.match(rest):
        several = _ANOTHER_CHOICE.match(rest, leading.end(1)) or _names_another(rest, leading, (_OR_ANOTHER,))
        return None if several else leading.group(1).upper()
    named = list(_NAMED_CHOICE.finditer(rest))
    if any(_names_another(rest, match, (_FURTHER_CHOICE, _OR_ANOTHER)) for match in named):
        return None
    found = {match.group(1).upper() for match in named} or set(_LONE_CAPITAL.findall(rest))
    return found.pop() if len(found) == 1 else None


def _names_another(text: str, match: re.Match[str], patterns: Iterable[re.Pattern[str]]) -> bool:
    """Whether another letter than the one that was found follows it as a second answer."""
    for pattern in patterns:
        further = pattern.match(text, match.end(1))
        if further is not None and further[further.lastindex or 1] != match.group(1).upper():
            return True
    return False


def yes_or_no(text: str) -> str | None:
    """Return "yes" or "no": the first word if it is one of them, else the only one that occurs."""
    words = [word.lower() for word in _YES_NO.findall(text)]
    if not words:
        return None
    if _BOTH.search(text):
        return None
    first = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
    return first.group(1).lower() if first else words[0] if len(set(words)) == 1 else None


def math_verify_installed() -> bool:
    """Say whether math-verify can be imported."""
    return importlib.util.find_spec("math_verify") is not None


@functools.cache
def _math_verify() -> tuple[Callable[..., Any], Callable[..., bool]]:
    """Import math-verify and read one expression, so that no answer's time limit pays for building its grammar."""
    from math_verify import parse, verify  # type: ignore[import-not-found,import-untyped,unused-ignore]

    for name in ("math_verify.parser", "math_verify.grader"):  # they print every answer that they cannot read in time
        logging.getLogger(name).setLevel(logging.CRITICAL)
    verify(parse("$x+1$", parsing_timeout=None), parse("$1+x$", parsing_timeout=None), timeout_seconds=None)
    return parse, verify


def _plain(text: str) -> str:
    seen = _UNSEEN.sub("", unicodedata.normalize("NFKC", plain_text(text)))
    for name, sign in _NAMED_SIGNS:
        seen = seen.replace(name, sign) if name in seen else seen
    rooted = _FACTOR.sub("", _ROOT.sub(lambda match: f"√({match[match.lastindex or 0]})", seen))
    collapsed = _SPACING.sub(r"\1\2", " ".join(rooted.casefold().split()))
    return collapsed.strip("\"'`*").rstrip(".!").strip("\"'`* ")


def _is_denied(text: str) -> bool:
    return _DENIED.search(text) is not None or _DENIED_BEHIND.search(text) is not None


def _says_more(answer: str, expected: str) -> bool:
    """Whether an answer denies its number, or has it in an expression, and the expected one does not."""
    return (_is_denied(answer) and not _is_denied(expected)) or (
        is_expression(plain_digits(plain_text(answer))) and not is_expression(plain_digits(plain_text(expected)))
    )


def _as_latex(text: str) -> str:
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[match.lastindex or 0]}}}", one_spelling(text))
    return text if "$" in text or "\\boxed" in text else f"${text}$"
