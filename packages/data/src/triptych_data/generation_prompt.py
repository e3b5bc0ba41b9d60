"""A chat template that does not begin the answer, or begins it twice, is refused before anything is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_parser.generation_prompt import generation_prompt_fault

from triptych_data.errors import UsageError

_passed: set[tuple[str, str]] = set()
"""Templates and arguments that were compared before: every row asks."""


def check_generation_prompt(processor: Any, chat_template_kwargs: Mapping[str, Any]) -> None:
    """Compare the end of a prompt with what comes before an answer. Raises UsageError with the remedy."""
    tokenizer = getattr(processor, "tokenizer", processor)
    template = getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)
    key = template if isinstance(template, str) else repr(template), repr(chat_template_kwargs)
    if key in _passed:
        return
    fault = generation_prompt_fault(processor, chat_template_kwargs=chat_template_kwargs)
    if fault is not None:
        raise UsageError(f"{fault[0]}; {fault[1]} (the file is chat_template.jinja in the model's folder)")
    _passed.add(key)
