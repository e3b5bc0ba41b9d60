"""What of a conversation is trained, as its tokens read: for the page of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from triptych_data import Example
from triptych_data.budget import Size
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.sft.labels import read_labels

__all__ = ["trained_texts"]


def trained_texts(
    model: ModelTokens, settings: PromptSettings, *, end_ids: Collection[int]
) -> Callable[[Example, Sequence[Size]], tuple[str, ...]]:
    """Return a function from a conversation and the sizes of its images to the trained text of each turn of the
    assistant.

    The function raises DataError where a run would refuse the row.
    """
    tokenizer = getattr(model.processor, "tokenizer", model.processor)

    def texts(example: Example, sizes: Sequence[Size]) -> tuple[str, ...]:
        found = read_labels(example, sizes, model=model, settings=settings, end_ids=end_ids)
        return tuple(
            tokenizer.decode([found.ids[k] for k in range(start, stop) if found.trained[k]], skip_special_tokens=False)
            for start, stop in found.turns
        )

    return texts
