"""Whether a chat template begins the assistant's answer once: what `add_generation_prompt` asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["generation_prompt_fault"]

_QUESTION, _ANSWER = "\ue000question\ue001", "\ue000answer\ue001"
_THOUGHTS = re.compile(r"<([\w:|]*think[\w:|]*)>.*?</\1>|\[THINK\].*?\[/THINK\]", re.DOTALL)


def generation_prompt_fault(
    processor: Any, *, chat_template_kwargs: Mapping[str, Any] | None = None
) -> tuple[str, str] | None:
    r"""Return what is wrong with the end of a prompt, and the remedy, or None if nothing is wrong or it cannot be
    compared.

    A prompt that the model continues has to end with the text that comes before an answer in a conversation. The
    template is asked for a question, for the same question to be answered, and for the question with an answer.

    >>> class Renderer:
    ...     chat_template = "..."
    ...     def apply_chat_template(self, messages, add_generation_prompt, **options):
    ...         return "".join(f"<{m['role']}>{m['content'][0]['text']}" for m in messages)
    >>> generation_prompt_fault(Renderer())[0].split(": ")
    ['the chat template ignores add_generation_prompt', "a prompt lacks the '<assistant>' that comes before an answer"]
    """
    own = getattr(processor, "chat_template", None) is not None
    renderer = processor if own else getattr(processor, "tokenizer", processor)
    options = {**(chat_template_kwargs or {}), "tokenize": False}
    for as_parts in (True, False):
        question = _message("user", _QUESTION, as_parts=as_parts)
        answer = _message("assistant", _ANSWER, as_parts=as_parts)
        try:
            ended, begun, answered = (
                renderer.apply_chat_template(messages, **{**options, "add_generation_prompt": begin})
                for messages, begin in (([question], False), ([question], True), ([question, answer], False))
            )
        except Exception:  # of Jinja, or of the template's own: what it takes is found out with the rows
            continue
        if all(_QUESTION in text for text in (ended, begun, answered)) and _ANSWER in _after(answered):
            return _fault(_after(ended), _after(begun), _after(answered).partition(_ANSWER)[0])
    return None


def _message(role: str, text: str, *, as_parts: bool) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}


def _after(rendered: str) -> str:
    return rendered.rpartition(_QUESTION)[2]


def _fault(ended: str, begun: str, between: str) -> tuple[str, str] | None:
    """`between` is what comes between a question and its answer."""
    header, written = between.rstrip(), begun.rstrip()
    if begun == ended and header.startswith(written):
        missing = between.removeprefix(written).lstrip()
        if _THOUGHTS.sub("", missing).strip():
            return (
                f"the chat template ignores add_generation_prompt: a prompt lacks the {missing.rstrip()!r} that comes "
                "before an answer",
                f"end the template with {{% if add_generation_prompt %}}{{{{ {missing!r} }}}}{{% endif %}}",
            )
    extra = written.removeprefix(header).strip() if written.startswith(header) else ""
    if extra and header.endswith(extra):
        return (
            f"the chat template begins the answer twice: a prompt ends with {extra!r} two times",
            "let the template write it once, inside {% if add_generation_prompt %}",
        )
    return None
