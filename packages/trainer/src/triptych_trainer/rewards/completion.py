"""Read a completion: its text, its reasoning, its answer. A model's output is data: nothing here raises on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a completion says, and why it is not in the expected layout (`problem` is None when it is)."""

    thought: str | None
    answer: str | None
    problem: str | None


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the assistant's text of a plain or a conversational completion."""
    if isinstance(completion, str):
        return completion
    texts = [_content_text(message.get("content")) for message in completion if message.get("role") == "assistant"]
    return "\n".join(text for text in texts if text)


def read_completion(text: str) -> Reading:
    """Split `<think>...</think> <answer>...</answer>`; the answer is also found in text that breaks the layout."""
    return Reading(thought=_thought(text), answer=extract_answer(text), problem=layout_problem(text))


def extract_answer(text: str) -> str | None:
    """Return the text of the last closed `<answer>`; without tags, what follows the reasoning; None if unfinished."""
    end = text.rfind(ANSWER_CLOSE)
    if end >= 0:
        start = text.rfind(ANSWER_OPEN, 0, end)
        return text[start + len(ANSWER_OPEN) : end].strip() if start >= 0 else None
    if ANSWER_OPEN in text:
        return None
    closed = text.rfind(THINK_CLOSE)
    rest = text[closed + len(THINK_CLOSE) :] if closed >= 0 else text
    return None if THINK_OPEN in rest else rest.strip() or None


def layout_problem(text: str) -> str | None:
    """Say in one sentence why `text` is not one `<think>` block followed by one `<answer>` block, or return None."""
    for tag in (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE):
        if (count := text.count(tag)) != 1:
            return f"expected one {tag}, found {count}"
    body = text.strip()
    if not body.startswith(THINK_OPEN):
        return f"expected {THINK_OPEN} at the start"
    if not body.endswith(ANSWER_CLOSE):
        return f"expected nothing after {ANSWER_CLOSE}"
    thought, _, rest = body[len(THINK_OPEN) : -len(ANSWER_CLOSE)].partition(THINK_CLOSE)
    between, opened, answer = rest.partition(ANSWER_OPEN)
    if not opened:
        return f"expected {ANSWER_OPEN} after {THINK_CLOSE}"
    if between.strip():
        return f"expected nothing between {THINK_CLOSE} and {ANSWER_OPEN}"
    if not thought.strip():
        return "the reasoning is empty"
    return None if answer.strip() else "the answer is empty"


def _thought(text: str) -> str | None:
    start = text.find(THINK_OPEN)
    end = text.find(THINK_CLOSE, start)
    return text[start + len(THINK_OPEN) : end].strip() if 0 <= start < end else None


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
