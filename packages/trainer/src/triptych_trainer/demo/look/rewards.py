"""The reward `answered`: does a rollout end in an answer of the right form?"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from triptych_trainer.rewards import completion_text

__all__ = ["answered"]

_ANSWER = re.compile(r"(?:<think>[^<]*</think>)?\s*<answer>([\w ]+)</answer>\s*")


def answered(completions: Sequence[Sequence[Mapping[str, Any]]], answer: Sequence[str], **_: Any) -> list[float]:
    """Return 1.0 if the last message is one whole answer of as many colours as are asked for, and 0.0 for any other
    end.
    """
    return [_score(messages, right) for messages, right in zip(completions, answer, strict=True)]


def _score(messages: Sequence[Mapping[str, Any]], right: str) -> float:
    if not messages or messages[-1].get("role") != "assistant" or messages[-1].get("tool_calls"):
        return 0.0
    found = _ANSWER.fullmatch(completion_text(messages[-1:]))
    return float(found is not None and len(found[1].split()) == len(right.split()))
