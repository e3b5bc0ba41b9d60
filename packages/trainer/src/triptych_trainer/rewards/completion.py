"""Read a completion: its text, its reasoning, its answer. A model's output is data: nothing here raises on it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.rewards.latex import boxed_answer

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Where a message contains the reasoning that a response template took out of its content."""
OPEN_REASONING = "reasoning_is_open"
"""The key under which a message says that its reasoning was cut before it was closed."""

_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
_OPENED = re.compile(rf"{THINK_OPEN}\s*({THINK_CLOSE}\s*)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Says what a completion says, and why it is not in the expected layout (`problem` is None if it is)."""

    thought: str | None
    answer: str | None
    problem: str | None


def completion_text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the assistant's text of a plain or a conversational completion, its reasoning in `<think>` tags."""
    if isinstance(completion, str):
        return completion
    texts = [_message_text(message) for message in completion if message.get("role") == "assistant"]
    return "\n".join(text for text in texts if text)


def has_reasoning(completion: str | Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a completion contains reasoning separately from its content: then its text has every tag already."""
    return not isinstance(completion, str) and any(_reasoning(message) is not None for message in completion)


def opened_by(prompt_end: str) -> str:
    """Return what the end of a prompt has begun of the completion: `<think>`, an empty block of it, or nothing.

    Chat templates of reasoning models end in `<think>`, and in an empty block where reasoning is switched off.
    """
    found = _OPENED.search(prompt_end[-200:])
    return "" if found is None else THINK_OPEN + (THINK_CLOSE if found.group(1) else "")


def read_completion(text: str, *, opened: str = "") -> Reading:
    """Split `<think>...</think> <answer>...</answer>`; the answer is also found in text that breaks the layout.

    `opened` is what the prompt's end began (see `opened_by`).
    """
    said = opened + text
    return Reading(thought=_thought(said), answer=extract_answer(said), problem=layout_problem(text, opened=opened))


def extract_answer(text: str) -> str | None:
    r"""Return the text of the last closed `<answer>`; without tags, what follows the reasoning, or None if unfinished.

    Of either it is what the last `\boxed{}` contains, where there is one. The tags count in capitals too.
    """
    text = lower_tags(text)
    end = text.rfind(ANSWER_CLOSE)
    if end >= 0:
        start = text.rfind(ANSWER_OPEN, 0, end)
        if start < 0:
            return None
        behind = text.find(THINK_CLOSE, end)
        if behind >= 0 and text.rfind(THINK_OPEN, 0, start) > text.rfind(THINK_CLOSE, 0, start):
            said = text[behind + len(THINK_CLOSE) :]
            if said.strip():
                return extract_answer(said)  # the tags were part of the reasoning
        tagged = text[start + len(ANSWER_OPEN) : end].strip()
        return boxed_answer(tagged) or tagged
    if ANSWER_OPEN in text:
        return None
    closed = text.rfind(THINK_CLOSE)
    rest = text[closed + len(THINK_CLOSE) :] if closed >= 0 else text
    if THINK_OPEN in rest:
        return None
    return boxed_answer(rest) or (None if "\\boxed{" in rest else rest.strip() or None)


def lower_tags(text: str) -> str:
    """Return a text with the tags of reasoning and answer in small letters."""
    return _TAG.sub(lambda match: match.group().lower(), text)


def layout_problem(text: str, *, opened: str = "") -> str | None:
    """Say in one sentence why `text` is not one `<think>` block followed by one `<answer>` block, or return None.

    What the prompt has `opened` counts as written; after an empty block, which no model can fill, an answer is enough.
    """
    if THINK_CLOSE in opened:
        return layout_problem(text if THINK_OPEN in text else f"{THINK_OPEN}nothing{THINK_CLOSE}{text}")
    text = opened + text
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


def _message_text(message: Mapping[str, Any]) -> str:
    reasoning, content = _reasoning(message), _content_text(message.get("content"))
    if message.get(OPEN_REASONING):
        return f"{content}{THINK_OPEN}{reasoning or ''}"
    return content if reasoning is None else f"{THINK_OPEN}{reasoning}{THINK_CLOSE}{content}"


def _reasoning(message: Mapping[str, Any]) -> str | None:
    found = next((message[key] for key in REASONING_KEYS if message.get(key)), None)
    return found if isinstance(found, str) else None


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
