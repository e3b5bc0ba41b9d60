"""The check of rows before a run: each conversation is written and its assistant's turns are found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from transformers import GenerationConfig
from triptych_data import Example
from triptych_data.budget import Size
from triptych_data.checked import RowCheck
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.prompts.row_check import name_of_check
from triptych_trainer.sft.conversation import conversation
from triptych_trainer.sft.labels import read_labels
from triptych_trainer.sft.tools import Dress

__all__ = ["message_end_ids", "row_check_of", "stored_end_ids"]


def message_end_ids(generation: GenerationConfig | None, processor: Any) -> frozenset[int]:
    """Return the tokens that end a message: those of the model's generation settings, and the tokenizer's end token."""
    known = None if generation is None else generation.eos_token_id
    own = getattr(processor, "tokenizer", processor).eos_token_id
    listed = known if isinstance(known, (list, tuple)) else [known]
    return frozenset(int(token) for token in (*listed, own) if token is not None)


def stored_end_ids(path: str, processor: Any, *, revision: str | None = None) -> frozenset[int]:
    """Read the tokens that end a message from the model's file of generation settings, before the model is loaded."""
    try:
        generation = GenerationConfig.from_pretrained(path, revision=revision)
    except (OSError, ValueError):
        generation = None
    return message_end_ids(generation, processor)


def row_check_of(
    processor: Any,
    settings: PromptSettings,
    *,
    end_ids: Collection[int],
    max_tokens: int | None,
    dress: Dress | None = None,
) -> RowCheck:
    """Return the check of rows for a model under the settings of a run; ``dress`` adds the run's tools to a row."""
    model = ModelTokens.of(processor)

    def look(example: Example, sizes: Sequence[Size]) -> None:
        whole = conversation(example if dress is None else dress(example))
        read_labels(whole, sizes, model=model, settings=settings, end_ids=end_ids, max_tokens=max_tokens)

    # What tools are called and described by is code of the user: nothing is remembered then.
    name = None if dress else name_of_check(processor, "sft", repr(settings), sorted(end_ids), max_tokens)
    return RowCheck(look=look, name=name)
