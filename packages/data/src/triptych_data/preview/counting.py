"""What the page says of a counted prompt: its tokens as text, and what the limits did to its images."""

from typing import Any, Literal

from triptych_data.budget import Size
from triptych_data.describe import CountedPrompt
from triptych_data.model_tokens import ModelTokens


def written(prompt: CountedPrompt, model: ModelTokens) -> str:
    """Return the whole prompt as its tokens read, chat template included, with the tokens of each image counted."""
    tokenizer: Any = getattr(model.processor, "tokenizer", model.processor)
    pieces, done = [], 0
    for start, length in (run for span in prompt.spans for run in span.runs):
        pieces += [tokenizer.decode(prompt.ids[done:start]), tokenizer.decode(prompt.ids[start : start + 1])]
        pieces.append(f" (x {length})" if length > 1 else "")
        done = start + length
    return "".join([*pieces, tokenizer.decode(prompt.ids[done:])])


def change(source: Size, model_size: Size | None, *, model: ModelTokens) -> Literal["shrunk", "enlarged"] | None:
    """Return whether the pixel limits changed an image by more than the rounding to whole tokens."""
    side = model.vision.factor
    if model_size is None or side is None:
        return None
    natural = [max(1, round(length / side)) * side for length in source]
    if model_size[0] * model_size[1] < natural[0] * natural[1]:
        return "shrunk"
    return "enlarged" if model_size[0] * model_size[1] > natural[0] * natural[1] else None
