"""The options of a question with several choices: an answer may give the letter or the text of the right one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.formats.prompts import content_text
from triptych_data.formats.prompts import offered_options as columns_of

from triptych_trainer.rewards.latex import plain_text
from triptych_trainer.rewards.matching import same_any, same_text
from triptych_trainer.rewards.row import Row

__all__ = ["contradicts_itself", "options_by_letter", "same_as_option"]

LETTERS = "ABCDEFGHIJ"
_LINE = re.compile(r"^[ \t]*[(\[]?([A-J])[)\].:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_INLINE = re.compile(r"\(([A-J])\)\s*([^()\n]+?)(?=[\s,;]*(?:\([A-J]\)|$|\n))", re.MULTILINE)
_LETTERED = re.compile(r"\s*[(\[]?([A-Ja-j])[)\].:]+\s+(\S.*?)\s*", re.DOTALL)
_LETTER = re.compile(
    r"(?:the\s+)?(?:correct\s+)?(?:(?:answer|option|choice)\s*)?(?:is\s*)?:?\s*[(\[]?([A-J])[)\].:]?\.?", re.IGNORECASE
)


def options_by_letter(row: Row) -> Mapping[str, str]:
    """Return the text of each option by its letter: of the row's column `options` or its like, else of its prompt."""
    for _, texts in columns_of(row.extras):
        lettered = [_LETTERED.fullmatch(text) for text in texts]
        pairs = [(match[1].upper(), match[2]) for match in lettered if match]
        found = _in_order(
            pairs if len(pairs) == len(texts) else list(zip(LETTERS, map(str.strip, texts), strict=False))
        )
        if found:
            return found
    text = _last_question(row.prompt)
    return _in_order(_LINE.findall(text)) or _in_order(_INLINE.findall(text))


def same_as_option(answer: str, expected: str, options: Mapping[str, str]) -> bool:
    """Compare where one gives the letter and the other the text; the text must be that of one option only."""
    if len(options) < 2 or any(len(text) == 1 and text.isalpha() for text in options.values()):
        return False
    wanted = _letter_of(expected, options)
    return wanted is not None and _letter_of(answer, options) == wanted


def contradicts_itself(answer: str, options: Mapping[str, str]) -> bool:
    """Return whether an answer gives the letter of one option with the text of another."""
    match = _LETTERED.fullmatch(plain_text(answer).strip())
    if match is None or match[1].upper() not in options:
        return False
    named = [letter for letter, option in options.items() if same_text(match[2], option)]
    return bool(named) and match[1].upper() not in named


def _letter_of(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that a text names by letter, text or both; None where these contradict each other."""
    plain = plain_text(text).strip()
    if match := _LETTER.fullmatch(plain):
        return match[1].upper() if match[1].upper() in options else None
    if match := _LETTERED.fullmatch(plain):
        letter = match[1].upper()
        return letter if letter in options and same_text(match[2], options[letter]) else None
    found = [letter for letter, option in options.items() if same_text(plain, option)]
    found = found or [letter for letter, option in options.items() if same_any(plain, option)]
    return found[0] if len(found) == 1 else None


def _in_order(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The options if their letters are A, B, C and so on; none otherwise."""
    letters = "".join(letter for letter, _ in pairs)
    return dict(pairs) if len(letters) > 1 and LETTERS.startswith(letters) else {}


def _last_question(prompt: Any) -> str:
    """The text of the user's last message, or a prompt of plain text."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence):
        return ""
    said = [turn.get("content") for turn in prompt if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return content_text(said[-1]) if said else ""
