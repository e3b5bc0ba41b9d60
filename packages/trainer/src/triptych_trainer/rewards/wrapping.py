"""What an answer is wrapped in: a JSON object with an `answer`, a code fence, a lead such as `答案是`."""

import re
from collections.abc import Mapping

from triptych_trainer.rewards.literals import whole_literal

__all__ = ["unwrapped", "without_fence"]

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_KEYS = ("answer", "final_answer")
_KEY = re.compile(r"""["'](?:final_)?answer["']\s*:""", re.IGNORECASE)
_CHINESE_LEAD = re.compile(
    r"\s*(?:(?:所以|因此|故)\s*[,，]?\s*)?(?:(?:正确|最终|最后)的?)?"
    r"(?:(?:答案|选项|结果)\s*(?:应该是|应为|应选|是|为|选|[:：])\s*[:：]?|(?:应该|应|故)?选(?:择|项)?\s*[:：]?\s*(?=[(\[（]?[A-Za-z]))\s*"
)


def unwrapped(answer: str) -> str:
    """Return the answer that a text is wrapped around, or the text itself.

    An object is read if it has one key `answer` (or `final_answer`) with a plain value, and no second one.
    """
    text = without_fence(answer)
    found = whole_literal(text) if text.lstrip().startswith("{") and len(_KEY.findall(text)) == 1 else None
    if isinstance(found, Mapping):
        named = [value for name, value in found.items() if str(name).lower() in _KEYS]
        if len(named) == 1 and isinstance(named[0], str | int | float):
            return str(named[0]).strip()
    lead = _CHINESE_LEAD.match(answer)
    return answer if lead is None else answer[lead.end() :].strip().rstrip("。") or answer


def without_fence(text: str) -> str:
    """Return what a Markdown fence of code contains, or the text itself."""
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text
