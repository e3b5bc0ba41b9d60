r"""LaTeX as models write answers in it: what is in the last `\boxed{}`, and the plain text of simple commands."""

import re

from triptych_trainer.rewards.expressions import one_spelling

__all__ = ["boxed_answer", "plain_text"]

_BRACE = re.compile(r"\\{1,2}(?:f?boxed|fbox)\s{0,3}\{|\\.|[{}]", re.DOTALL)
_JOINED = re.compile(r"[\s$,;]*(?:\b(?:and|or)\b)?[\s$,;]*")
"""What is between two boxes that are one answer, as in `\boxed{3}, \boxed{4}` or `\boxed{3} or \boxed{4}`."""
_WORDING = re.compile(
    r"\\(?:text|textbf|textit|textrm|texttt|emph|mbox|mathrm|mathbf|mathit|operatorname|underline)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?[\d.]+)\s*\}|(\d))\s*(?:\{\s*([\d.]+)\s*\}|(\d))")
_DELIMITER = re.compile(r"\$|\\[()\[\]]|\\(?:left|right|displaystyle)(?![A-Za-z])|\\!|\^?\{?\s*\\circ\s*\}?|\\degree|°")
_SPACE = re.compile(r"\\[,;: ]|~|\\q?quad(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|,\\!)(?=\d{3}(?!\d))")
_ESCAPED = re.compile(r"\\([%$#&_{}])")
_BRACED = re.compile(r"(?<=\^)\{([^{}\\]*)\}|^\s*\{([^{}\\]*)\}\s*$")


def boxed_answer(text: str) -> str | None:
    r"""Return what the last closed `\boxed{}` or `\fbox{}` contains, without its braces, or None if there is none.

    Neighbours with at most a comma, `and` or `or` between them are one answer, so that two candidates stay two.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    first, _, answer = boxes[-1]
    for start, end, content in reversed(boxes[:-1]):
        between = text[end:first]
        if not _JOINED.fullmatch(between):
            break
        first, answer = start, answer if content == answer else f"{content}{between.replace('$', ' ')}{answer}"
    return answer


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Return (start, end, content) of every closed box, in order, that contains no other one."""
    found: list[tuple[int, int, str]] = []
    opened: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text):
        if brace.group()[-1] == "{" and len(brace.group()) != 2:
            opened.append(brace)
        elif brace.group() == "}" and opened:
            start = opened.pop()
            encloses = bool(found) and found[-1][0] > start.start()
            if len(start.group()) > 1 and not encloses:
                found.append((start.start(), brace.end(), text[start.end() : brace.start()].strip()))
    return found


def plain_text(text: str) -> str:
    r"""Return a text without the commands that only dress an answer: `$`, `\text{}`, `\%`, `\frac{1}{2}` as `1/2`.

    Commands that mean something else, such as `\sqrt`, stay. Signs with several spellings have one (`one_spelling`).
    """
    text = one_spelling(text)
    if "\\" not in text and "$" not in text and "{" not in text and "°" not in text:
        return text
    plain = _ESCAPED.sub(r"\1", _THOUSANDS.sub(",", text))
    plain = _repeated(_FRACTION, _repeated(_WORDING, plain))
    return _BRACED.sub(_inside, _SPACE.sub(" ", _DELIMITER.sub("", plain))).strip()


def _repeated(pattern: re.Pattern[str], text: str) -> str:
    """Replace every match by what it contains, from the innermost of at most four levels outwards."""
    for _ in range(4):
        text, count = pattern.subn(_inside, text)
        if not count:
            break
    return text


def _inside(match: re.Match[str]) -> str:
    return "/".join(part for part in match.groups() if part is not None)
