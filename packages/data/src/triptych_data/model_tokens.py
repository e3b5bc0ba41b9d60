"""What counting a model's tokens takes, from its folder: processor, or tokenizer and image processor apart."""

from __future__ import annotations

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
            return ModelTokens(processor=processor, vision=VisionSpec.from_processor(processor))
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
