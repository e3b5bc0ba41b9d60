"""What counting a model's tokens takes: its processor, or its tokenizer and its image processor each alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from triptych_data.errors import UsageError
from triptych_data.vision import VisionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTokens:
    """`processor` is given to the parser's `tokenize`; with `image_token` it is a tokenizer alone."""

    processor: Any
    vision: VisionSpec
    image_token: str | None = None

    @classmethod
    def of(cls, processor: Any) -> ModelTokens:
        """What a loaded processor says."""
        return cls(processor=processor, vision=VisionSpec.from_processor(processor))

    def with_pixels(self, *, min_pixels: int | None = None, max_pixels: int | None = None) -> ModelTokens:
        """The same model under other pixel limits; this one stays as it is.

        Raises UsageError where the image processor knows no pixel limits, or the two contradict each other.
        """
        if min_pixels is None and max_pixels is None:
            return self
        if self.image_token is not None:
            images = copy.copy(self.vision.processor)
            set_pixels(images, min_pixels=min_pixels, max_pixels=max_pixels)
            vision = VisionSpec.from_processor(images)
            return ModelTokens(processor=self.processor, vision=vision, image_token=self.image_token)
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
            f"at least {size['shortest_edge']} and at most {size['longest_edge']} pixels cannot both hold; "
            "give --min_pixels and --max_pixels together"
        )
    image_processor.size = type(image_processor.size)(**size) if not isinstance(image_processor.size, dict) else size


def load_model_tokens(model: str) -> ModelTokens:
    """Load them from a folder or a hub name. UsageError says what is missing.

    Processors with a video branch need torchvision and a video configuration to be built as a whole; for counting,
    their parts suffice.
    """
    try:
        from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
    except ImportError as error:
        raise UsageError("--model needs transformers: pip install transformers") from error
    whole: Exception | None = None
    try:
        processor = AutoProcessor.from_pretrained(model)
        if hasattr(processor, "image_processor"):
            return ModelTokens.of(processor)
    except (ImportError, OSError, ValueError) as error:
        whole = error  # no torchvision, or a folder without the video branch: its parts may be there
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        vision = VisionSpec.from_processor(AutoImageProcessor.from_pretrained(model))
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(whole or error).split())
        raise UsageError(f"--model {model}: no processor can be loaded ({reason})") from error
    if vision.factor is None:
        raise UsageError(f"--model {model}: its processor has tiles or a video branch, install torchvision to count")
    return ModelTokens(processor=tokenizer, vision=vision, image_token=_image_token(tokenizer, model))


def _image_token(tokenizer: Any, model: str) -> str:
    named = getattr(tokenizer, "image_token", None)
    if isinstance(named, str):
        return named
    from transformers import AutoConfig

    number = getattr(AutoConfig.from_pretrained(model), "image_token_id", None)
    if number is None:
        raise UsageError(f"--model {model}: neither its tokenizer nor its config names an image token")
    token: str = tokenizer.convert_ids_to_tokens(number)
    return token
