"""Which adapter serves which model: one table, by the config's own model type."""

from __future__ import annotations

import torch
from triptych_parser import Refusal

from triptych_trainer.models.families.ernie import ErnieVLFamily
from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.gemma3 import Gemma3Family
from triptych_trainer.models.families.gemma4 import Gemma4Family, Gemma4UnifiedFamily
from triptych_trainer.models.families.glm4v import Glm4vFamily, PaddleOCRFamily
from triptych_trainer.models.families.llava import LlavaFamily
from triptych_trainer.models.families.mistral3 import Mistral3Family
from triptych_trainer.models.families.ovis2 import Ovis2Family
from triptych_trainer.models.families.paligemma import PaliGemmaFamily
from triptych_trainer.models.families.patches import KimiVLFamily, Lfm2VLFamily, MiniCPMVFamily
from triptych_trainer.models.families.qwen3_5 import Qwen35Family
from triptych_trainer.models.families.qwen3_vl import Qwen3VLFamily
from triptych_trainer.models.families.qwen_vl import QwenVLFamily
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
    Gemma4Family(),
    Gemma4UnifiedFamily(),
    SmolVLMFamily(),
    Idefics2Family(),
    KimiVLFamily(),
    Lfm2VLFamily(),
    MiniCPMVFamily(),
    Ovis2Family(),
    PaliGemmaFamily(),
)
_GENERIC = Family()
_TEXT = TextFamily()


class UnknownFamilyError(Refusal, ValueError):
    """A model that no adapter describes and the generic one cannot serve."""


def family_of(model: torch.nn.Module) -> Family:
    """The adapter of `model` (the class with the head, unwrapped).

    A model type outside the table gets the generic adapter if it has the usual parts, that of text models if it has
    no part for images, and one clear sentence else.
    """
    model_type = model.config.model_type
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    if is_text_model(model):
        return _TEXT
    inner = getattr(model, "model", None)
    text = getattr(inner, "language_model", None) or getattr(inner, "text_model", None)
    if inner is None or text is None or not hasattr(inner, "get_image_features"):
        known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
        raise UnknownFamilyError(
            f"model type {model_type!r} has no adapter and not the parts the generic one needs (model.language_model "
            f"and model.get_image_features); known types: {known}; see docs/add-a-family.md"
        )
    return _GENERIC
