"""What is needed to count a model's tokens: its processor, and the rule by which it resizes images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from triptych_data.errors import UsageError
from triptych_data.options import ModelOptions, PromptOptions
from triptych_data.processors import load_processor
from triptych_data.vision import VisionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTokens:
    """Joins a `processor`, which tokenizes prompts, with `vision`, which knows the sizes to which it resizes images."""

    processor: Any
    vision: VisionSpec

    @classmethod
    def of(cls, processor: Any) -> ModelTokens:
        """Return the tokens and the sizes of a processor that is loaded."""
        return cls(processor=processor, vision=VisionSpec.from_processor(processor))

    def with_pixels(self, *, min_pixels: int | None = None, max_pixels: int | None = None) -> ModelTokens:
        """Return the same model under other pixel limits; this object does not change.

        Raises UsageError where the image processor knows no pixel limits, or the two contradict each other.
        """
        if min_pixels is None and max_pixels is None:
            return self
        processor = copy.copy(self.processor)
        processor.image_processor = copy.copy(processor.image_processor)
        set_pixels(processor.image_processor, min_pixels=min_pixels, max_pixels=max_pixels)
        return ModelTokens.of(processor)


def set_pixels(image_processor: Any, *, min_pixels: int | None, max_pixels: int | None) -> None:
    """Set the pixel limits of an image processor; what is None stays.

    Raises UsageError where it knows no pixel limits, or the two contradict each other.
    """
    if min_pixels is None and max_pixels is None:
        return
    size = dict(image_processor.size or {})
    if not {"shortest_edge", "longest_edge"} <= set(size):
        raise UsageError(
            f"--min_pixels/--max_pixels: {type(image_processor).__name__} resizes to {size}, not to a number of "
            "pixels; leave them out for this model"
        )
    size["shortest_edge"] = min_pixels or size["shortest_edge"]
    size["longest_edge"] = max_pixels or size["longest_edge"]
    if size["shortest_edge"] > size["longest_edge"]:
        raise UsageError(
            f"at least {size['shortest_edge']} and at most {size['longest_edge']} pixels cannot both be met; "
            "give --min_pixels and --max_pixels together"
        )
    image_processor.size = type(image_processor.size)(**size) if not isinstance(image_processor.size, dict) else size


def load_model_tokens(name: str, options: ModelOptions) -> ModelTokens:
    """Load the processor of a folder or a hub name, for counting. UsageError says what is missing."""
    processor = load_processor(name, revision=options.model_revision, trust_remote_code=options.trust_remote_code)
    return ModelTokens.of(processor)


def chosen_model(name: str | None, loading: ModelOptions, prompt: PromptOptions) -> ModelTokens | None:
    """Return what counts the tokens of the model that a command line names, under its pixel limits; None without a
    model.

    Raises UsageError where it cannot be loaded, or knows no pixel limits.
    """
    if name is None:
        return None
    model = load_model_tokens(name, loading)
    from transformers.utils import logging

    logging.set_verbosity_error()  # as in a run: it would say the same of every row
    return model.with_pixels(min_pixels=prompt.min_pixels, max_pixels=prompt.max_pixels)
