"""Whether the chat template writes what a message says next to its content: a speaker's name, thoughts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from triptych_data.example import Example
from triptych_data.formats.turns import CALLS, ROLES

_LOOKED_AT = ("name", "reasoning_content", "recipient")
"""Keys of a message that the model has to see; `tool_call_id` and the name of a tool only say which call is meant."""
_PROBE = "\ue000key\ue001"
_found: dict[tuple[str, str, str, str], bool] = {}


def unwritten_key(example: Example, processor: Any, chat_template_kwargs: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (what is left out, remedy) for the first key of a message that the chat template writes in no
    conversation, or None.
    """
    for number, role, key in _keys(example):
        if not _writes(processor, role, key, chat_template_kwargs):
            return (
                f"expected the chat template to write {key} of message {number}, got one that writes no {key} of the "
                f"{role}",
                "write it into the content, between <think> and </think>, or remove it"
                if key == "reasoning_content"
                else "write it into the content as text, or remove it",
            )
    return None


def has_keys(example: Example) -> bool:
    """Return whether a message says or calls more than its content, so that the chat template has to be asked."""
    return next(_keys(example), None) is not None or any(turn.extra.get(CALLS) for turn in example.prompt.prompt.turns)


def _keys(example: Example) -> Iterator[tuple[int, str, str]]:
    """(number of the message from 1, role, key) of each key to look at; a name that repeats the role and a
    recipient "all" say nothing.
    """
    for number, turn in enumerate(example.prompt.prompt.turns, start=1):
        for key in _LOOKED_AT if turn.extra and turn.role != "tool" else ():
            value = str(turn.extra.get(key) or "").strip().lower()
            if value and ROLES.get(value) != turn.role and (key, value) != ("recipient", "all"):
                yield number, turn.role, key


def _writes(processor: Any, role: str, key: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether the template writes the key somewhere; where it refuses every conversation, the row itself shows it."""
    own = getattr(processor, "chat_template", None) is not None
    renderer = processor if own else getattr(processor, "tokenizer", processor)
    template = repr(getattr(renderer, "chat_template", None))
    known = (template, repr(kwargs), role, key)
    if known not in _found:
        rendered = [text for text in _rendered(renderer, role, key, kwargs) if text is not None]
        _found[known] = not rendered or any(_PROBE in text for text in rendered)
    return _found[known]


def _rendered(renderer: Any, role: str, key: str, kwargs: Mapping[str, Any]) -> list[str | None]:
    shapes = {"user": [["user"]], "system": [["system", "user"]]}
    shapes["assistant"] = [["user", "assistant"], ["user", "assistant", "user"]]
    texts = []
    for as_parts in (True, False):
        for shape in shapes.get(role, [["user", role]]):
            content = [{"type": "text", "text": "text"}] if as_parts else "text"
            messages = [{"role": one, "content": content, **({key: _PROBE} if one == role else {})} for one in shape]
            for begin in (False, True):
                try:
                    options = {**kwargs, "tokenize": False, "add_generation_prompt": begin}
                    texts.append(renderer.apply_chat_template(messages, **options))
                except Exception:  # of Jinja, or of the template's own
                    texts.append(None)
    return texts
