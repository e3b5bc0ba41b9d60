"""Which adapter serves which model: one table, by the config's own model type."""

from __future__ import annotations

import inspect

import torch
from triptych_parser import Refusal

from triptych_trainer.models.families.ernie import ErnieVLFamily
from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.gemma3 import Gemma3Family, Gemma3nFamily
from triptych_trainer.models.families.gemma4 import Gemma4Family, Gemma4UnifiedFamily
from triptych_trainer.models.families.glm4v import Glm4vFamily, PaddleOCRFamily
from triptych_trainer.models.families.llava import DeepseekHybridFamily, LlavaFamily, OneTileFamily
from triptych_trainer.models.families.mistral3 import Mistral3Family
from triptych_trainer.models.families.not_served import NOT_SERVED
from triptych_trainer.models.families.ovis2 import Ovis2Family
from triptych_trainer.models.families.paligemma import PaliGemmaFamily
from triptych_trainer.models.families.patches import KimiVLFamily, Lfm2VLFamily, MiniCPMOcrFamily, MiniCPMVFamily
from triptych_trainer.models.families.qwen3_5 import Qwen35Family
from triptych_trainer.models.families.qwen3_vl import Qwen3VLFamily
from triptych_trainer.models.families.qwen_vl import Exaone45Family, QwenVLFamily, VideoLlama3Family
from triptych_trainer.models.families.text import TextFamily, is_text_model
from triptych_trainer.models.families.tiles import (
    Idefics2Family,
    InternVLFamily,
    LlavaNextFamily,
    LlavaOnevisionFamily,
    SmolVLMFamily,
)

FAMILIES: tuple[Family, ...] = (
    QwenVLFamily(),
    Qwen3VLFamily(),
    Qwen35Family(),
    InternVLFamily(),
    Glm4vFamily(),
    PaddleOCRFamily(),
    ErnieVLFamily(),
    LlavaFamily(),
    Mistral3Family(),
    LlavaNextFamily(),
    LlavaOnevisionFamily(),
    Gemma3Family(),
    Gemma3nFamily(),
    Gemma4Family(),
    Gemma4UnifiedFamily(),
    SmolVLMFamily(),
    Idefics2Family(),
    Exaone45Family(),
    VideoLlama3Family(),
    OneTileFamily(),
    DeepseekHybridFamily(),
    KimiVLFamily(),
    Lfm2VLFamily(),
    MiniCPMVFamily(),
    MiniCPMOcrFamily(),
    Ovis2Family(),
    PaliGemmaFamily(),
)
_GENERIC = Family()
_TEXT = TextFamily()
_own: list[Family] = []


class UnknownFamilyError(Refusal, ValueError):
    """Says that no adapter describes a model, and that the generic adapter cannot serve it."""


def register_family(family: Family) -> None:
    """Let an adapter of your own serve its `model_types`, from now on and before the adapters of the table.

    Raises:
        ValueError: it names no model type.
    """
    if not family.model_types:
        raise ValueError(f"{type(family).__name__} names no model_types; set those config.model_type values it is for")
    _own.insert(0, family)


def family_of(model: torch.nn.Module) -> Family:
    """Return the adapter of `model` (the class with the head, unwrapped).

    A model type outside the table gets the generic adapter if that can be right, that of text models if it has no part
    for images, and one clear sentence else.
    """
    model_type = model.config.model_type
    for family in (*_own, *FAMILIES):
        if model_type in family.model_types:
            return family
    if model_type in NOT_SERVED:
        raise UnknownFamilyError(
            f"model type {model_type!r} is not served: {NOT_SERVED[model_type]}; take a type of the table in "
            "docs/families.md, or write an adapter, which docs/add-a-family.md shows"
        )
    if is_text_model(model):
        return _TEXT
    if (reason := _generic_fails(model)) is not None:
        known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
        raise UnknownFamilyError(
            f"model type {model_type!r} has no adapter, and the generic one does not serve it: {reason}; known types: "
            f"{known}; docs/add-a-family.md shows how to add one"
        )
    return _GENERIC


def selects_keys(text: torch.nn.Module) -> str | None:
    """Return why no pass serves a text backbone whose attention selects some of the keys, if it does so.

    The selectors of transformers count pads as keys, or begin their blocks with them: a row with pads before it selects
    other keys than alone.
    """
    selectors = sorted({type(part).__name__ for part in text.modules() if "Indexer" in type(part).__name__})
    return f"its attention selects keys with pads among them ({selectors[0]})" if selectors else None


def _generic_fails(model: torch.nn.Module) -> str | None:
    """Why the generic adapter cannot serve a model, as far as that shows without running it."""
    inner = getattr(model, "model", None)
    text = getattr(inner, "language_model", None) or getattr(inner, "text_model", None)
    if inner is None or text is None or not hasattr(inner, "get_image_features"):
        return "it needs the parts model.language_model and model.get_image_features"
    if any(getattr(part.config, "is_encoder_decoder", False) for part in (model, text)):
        return "its text backbone is an encoder and a decoder"
    if hasattr(inner, "get_rope_index"):
        return "its positions follow from the sizes of its images (get_rope_index)"
    types = [name for name in inspect.signature(type(model).forward).parameters if name.endswith("token_type_ids")]
    if types:
        return f"its masks or positions depend on which tokens are images ({types[0]})"
    if (reason := selects_keys(text)) is not None:
        return reason
    if "pixel_values" not in inspect.signature(inner.get_image_features).parameters:
        return "its get_image_features takes no pixel_values"
    return None
