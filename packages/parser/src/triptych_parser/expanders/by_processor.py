"""Which expander a processor has."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from triptych_parser.errors import MarkerError
from triptych_parser.expanders import runs, tiles
from triptych_parser.expanders.expander import Expansion, ImageExpander, Make, Sizes, image_token
from triptych_parser.expanders.options import call_defaults

__all__ = ["EXPANDERS", "expander_of", "register_expander"]

_QWEN = runs.grid("<|vision_start|>", "<|vision_end|>")
_GLM = runs.grid("<|begin_of_image|>", "<|end_of_image|>")
_KIMI = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"

EXPANDERS: Mapping[str, Make] = MappingProxyType(
    {
        "AyaVisionProcessor": tiles.aya_vision,
        "Cohere2VisionProcessor": tiles.cohere2_vision,
        "DeepseekVLHybridProcessor": runs.fixed,
        "DeepseekVLProcessor": runs.fixed,
        "Ernie4_5_VLMoeProcessor": runs.grid(None, None),
        "Gemma3Processor": tiles.gemma3,
        "Gemma3nProcessor": runs.gemma3n,
        "Gemma4Processor": runs.gemma4,
        "Gemma4UnifiedProcessor": runs.gemma4,
        "Glm46VProcessor": _GLM,
        "Glm4vProcessor": _GLM,
        "Idefics2Processor": tiles.idefics2,
        "Idefics3Processor": tiles.smolvlm,
        "InternVLProcessor": runs.internvl,
        "JanusProcessor": runs.fixed,
        "Kimi_K25Processor": runs.grid("<|media_content|>", "<|media_end|>", template_text=_KIMI),
        "Lfm2VlProcessor": tiles.lfm2_vl,
        "LlavaNextProcessor": runs.llava_next,
        "LlavaOnevisionProcessor": runs.llava_onevision,
        "LlavaProcessor": runs.llava,
        "MiniCPMOcrProcessor": tiles.minicpm,
        "MiniCPMV4_6Processor": tiles.minicpm,
        "Ovis2Processor": tiles.ovis2,
        "PaddleOCRVLProcessor": runs.grid("<|IMAGE_START|>", "<|IMAGE_END|>"),
        "PaliGemmaProcessor": runs.paligemma,
        "PixtralProcessor": tiles.pixtral,
        "Qwen2VLProcessor": _QWEN,
        "Qwen2_5_VLProcessor": _QWEN,
        "Qwen3VLProcessor": _QWEN,
        "QianfanOCRProcessor": runs.internvl,
        "SmolVLMProcessor": tiles.smolvlm,
    }
)
"""By the class of the processor. Each is tested to give its processor's own ids, id for id."""
_own: dict[str, Make] = {}


def register_expander(processor_class: str, make: Make) -> None:
    """Let an expander of your own serve the processors of a class, given by its name, from now on.

    `make(processor, options)` returns the `ImageExpander`; `options` are the image options of the processor's call.
    What it writes is compared with the processor's own call where a command loads the processor.
    """
    _own[processor_class] = make


def expander_of(processor: Any, *, images_kwargs: Mapping[str, Any] | None = None) -> ImageExpander:
    """Return the expander of a processor object, by its class or a class that it derives from.

    A processor of no known class is taken as a plain one: its `image_token` repeated as often as its
    `_get_num_multimodal_tokens` says; `check_processor` finds out whether that is right. `images_kwargs` are the image
    options of the processor call to match.

    Raises MarkerError when the object cannot say which token represents an image.
    """
    options = {**call_defaults(processor, "images_kwargs"), **(images_kwargs or {})}
    makers = {**EXPANDERS, **_own}
    for cls in type(processor).__mro__:
        if cls.__name__ in makers:
            return makers[cls.__name__](processor, options)
    return _plain(processor, images_kwargs or {})


def _plain(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    token = image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        if not sizes:
            return []
        counter = getattr(processor, "_get_num_multimodal_tokens", None)
        if counter is None:
            raise MarkerError(
                f"{type(processor).__name__} cannot count the tokens of an image", remedy="pass image_tokens=[...]"
            )
        defaults = getattr(getattr(processor, "valid_processor_kwargs", None), "_defaults", None)
        before = copy.deepcopy(defaults)
        counts = counter(image_sizes=[list(size) for size in sizes], **options)["num_image_tokens"]
        if defaults is not None and before is not None:  # before 5.23 the count writes its options into the defaults
            defaults.clear()
            defaults.update(before)
        return [Expansion(text=token, runs=(int(count),)) for count in counts]

    return ImageExpander(template_token=token, placeholder=token, expand=expand)
