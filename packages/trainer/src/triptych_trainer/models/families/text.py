"""Language models that take no images: they share prompts like all others, and have no tower."""

from __future__ import annotations

import inspect

import torch

from triptych_trainer.models.families.family import Family


class TextFamily(Family):
    """Describes a causal language model: the whole model is its language model, because it has no other part."""

    takes_images = False

    def vision_language_model(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the text backbone, because no module owns a tower."""
        return model.base_model  # type: ignore[return-value]

    def language_model(self, vision_language_model: torch.nn.Module) -> torch.nn.Module:
        """Return the backbone itself."""
        return vision_language_model


def is_text_model(model: torch.nn.Module) -> bool:
    """Return whether a model is a causal language model without any part for images."""
    inner = getattr(model, "base_model", None)
    config = getattr(model, "config", None)
    if inner is None or inner is model or config is None:
        return False
    if config.get_text_config() is not config or hasattr(inner, "get_image_features"):
        return False
    return "pixel_values" not in inspect.signature(type(model).forward).parameters
