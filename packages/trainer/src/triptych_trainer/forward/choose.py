"""How a model shares prompts now: as its family does, or in a slower way that its layers or settings allow."""

from __future__ import annotations

import torch

from triptych_trainer.forward.prefix_cache import uses_reentrant_checkpointing
from triptych_trainer.models.families import SharingPath, family_of
from triptych_trainer.models.unwrap import unwrap

_PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_CACHEABLE_LAYERS = _PACKABLE_LAYERS | {"linear_attention", "conv"}


def sharing_path(model: torch.nn.Module) -> SharingPath:
    """Return how `shared_logps` would score `model` now: one packed row, a prompt cache, or replicated rows."""
    return sharing_path_and_reason(model)[0]


def sharing_path_and_reason(model: torch.nn.Module) -> tuple[SharingPath, str | None]:
    """Return the path and, if it is "plain", the sentence that says why."""
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    if family.path == "plain":
        return "plain", f"the adapter of {base.config.model_type} does not share prompts"
    if getattr(text.config, "attn_logit_softcapping", None) is not None:
        return "plain", "its attention scores are capped (attn_logit_softcapping), which no fused attention computes"
    if not getattr(text, "_supports_sdpa", True) and not any(hasattr(module, "sinks") for module in text.modules()):
        return (
            "plain",
            f"{type(text).__name__} computes attention in a way of its own, which is not scaled dot products",
        )
    layers = set(getattr(text.config, "layer_types", None) or ())
    if family.path == "packed" and layers <= _PACKABLE_LAYERS:
        if not text._can_set_attn_implementation():
            return "plain", f"{type(text).__name__} does not take a registered attention function"
        return "packed", None
    if not layers <= _CACHEABLE_LAYERS:
        return "plain", f"no shared pass supports its layers {sorted(layers - _CACHEABLE_LAYERS)}"
    if torch.is_grad_enabled() and uses_reentrant_checkpointing(base):
        return "plain", "its prompt cache needs gradient_checkpointing_kwargs={'use_reentrant': False}"
    return "cache", None
