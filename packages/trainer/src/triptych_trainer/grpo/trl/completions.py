"""Completions as messages, read as TRL reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych_trainer.grpo.sampler import one_message
from triptych_trainer.grpo.trl.responses import read_response
from triptych_trainer.prompts.prepare import PreparedPrompt

__all__ = ["completion_reader"]


def completion_reader(tokenizer: Any) -> Callable[[PreparedPrompt, Sequence[int]], Sequence[Mapping[str, Any]]]:
    """Read by the tokenizer's response template if it has one, so that reasoning is kept separate; else as text."""
    if getattr(tokenizer, "response_template", None) is None and getattr(tokenizer, "response_schema", None) is None:
        return one_message(tokenizer)

    as_text = one_message(tokenizer)

    def read(prompt: PreparedPrompt, ids: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        if prompt.text is not None:
            return as_text(prompt, ids)
        return [read_response(tokenizer, ids, prefix=prompt.ids, tools=())]

    return read
