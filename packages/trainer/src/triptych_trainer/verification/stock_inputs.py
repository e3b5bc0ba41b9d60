"""The inputs of a model's stock forward, made from a prompt by the model's own processor alone."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from triptych_data.describe import template_kwargs
from triptych_parser.expanders import expander_of

from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer

__all__ = ["StockInputs", "stock_inputs"]

StockInputs = Mapping[str, torch.Tensor]
"""One row as the processor returns it: ``input_ids`` [1, L], its mask and type ids, and the tensors of its images."""


def stock_inputs(prompt: PreparedPrompt, preparer: PromptPreparer) -> StockInputs:
    """Let the processor prepare a prompt from its messages and images.

    Where its ids are not those of the prompt (text that looks like a special token, images written at their markers),
    the row is made of the prompt's own ids and of the type ids and image tensors that the processor gives its images.
    """
    processor, ids = preparer.processor, torch.tensor([prompt.ids])
    images, options = preparer.pictures(prompt)
    shown = [images[span.image] for span in prompt.spans]
    if getattr(processor, "image_processor", None) is None:
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        text = prompt.text if prompt.text is not None else _written(prompt, preparer)
        found = _called(processor, text, shown, options)
        if torch.equal(found["input_ids"], ids):
            return found
    except Exception:  # a processor may refuse the text for any reason; its images alone are asked for next
        if not shown:
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    token = expander_of(processor).template_token
    return _with_ids(ids, _called(processor, "\n".join([token] * len(shown)) or "a", shown, options))


def _written(prompt: PreparedPrompt, preparer: PromptPreparer) -> str:
    template = template_kwargs(prompt.example, preparer.settings)
    messages = prompt.example.prompt.messages()
    text: str = preparer.processor.apply_chat_template(
        messages, tokenize=False, **{"add_generation_prompt": True, **template}
    )
    return text


def _called(processor: Any, text: str, images: Sequence[Image.Image], options: Mapping[str, Any]) -> StockInputs:
    given = {"images": [list(images)], **options} if images else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the processor's own code
        outputs = processor(text=[text], return_tensors="pt", **given)
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor) and name != "labels"}


def _with_ids(ids_1L: torch.Tensor, found: StockInputs) -> StockInputs:
    """The inputs of a short text with the same images, its ids replaced; each id keeps the type it has there."""
    inputs = {}
    for name, values in found.items():
        if name == "input_ids":
            inputs[name] = ids_1L
        elif name == "attention_mask":
            inputs[name] = torch.ones_like(ids_1L, dtype=values.dtype)
        elif values.shape == found["input_ids"].shape:
            types = dict(zip(found["input_ids"][0].tolist(), values[0].tolist(), strict=True))
            row = [types.get(token, 0) for token in ids_1L[0].tolist()]
            inputs[name] = torch.tensor([row], dtype=values.dtype)
        else:
            inputs[name] = values
    return inputs
