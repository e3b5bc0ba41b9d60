"""The vision tower, once per unique image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from triptych_trainer.forward.kept_attention import checkpoint_keeping_attention
from triptych_trainer.forward.patch_products import patches_as_products
from triptych_trainer.models.families import Family, ImageFeatures, ImageInputs, family_of
from triptych_trainer.models.unwrap import unwrap


def encode(
    family: Family, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs], *, device: torch.device
) -> ImageFeatures:
    """Encode `images` in one call of the tower, without a graph if only the text backbone is trainable."""
    moved = [{name: values.to(device, non_blocking=True) for name, values in image.items()} for image in images]
    learns = torch.is_grad_enabled() and tower_is_trainable(family, vision_language_model)
    with torch.set_grad_enabled(learns), patches_as_products(vision_language_model.modules()):
        return family.encode(vision_language_model, moved)


def tower_is_trainable(family: Family, vision_language_model: torch.nn.Module) -> bool:
    """Return whether any parameter outside the text backbone takes a gradient."""
    return any(parameter.requires_grad for parameter in family.vision_parameters(vision_language_model))


@contextmanager
def checkpointed_tower(family: Family, vision_language_model: torch.nn.Module) -> Iterator[None]:
    """Switch gradient checkpointing on in the layers outside the text backbone, and back to what it was afterwards."""
    text = set(family.language_model(vision_language_model).modules())
    layers = [m for m in vision_language_model.modules() if m not in text and hasattr(m, "gradient_checkpointing")]
    before = [(m, m.gradient_checkpointing, getattr(m, "_gradient_checkpointing_func", None)) for m in layers]
    try:
        for layer in layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = checkpoint_keeping_attention(layer)
        yield
    finally:
        for layer, was_on, function in before:
            layer.gradient_checkpointing, layer._gradient_checkpointing_func = was_on, function


def touch_tower(family: Family, vision_language_model: torch.nn.Module, embeds_BTD: torch.Tensor) -> torch.Tensor:
    """Add zero times the features of a dummy image to the embeddings.

    A rank whose micro-batch has no image would skip the tower's collectives and hang or misalign the other ranks. The
    touch has to come before the language model, so that the gradients of all ranks become ready in the same order.
    """
    dummy = family.dummy_image(vision_language_model)
    features = encode(family, vision_language_model, [dummy], device=embeds_BTD.device)
    touch = features.rows.sum() + sum(rows_ND.sum() for rows_ND in features.deepstack)
    return embeds_BTD + 0.0 * touch.to(embeds_BTD.dtype)


def encode_images(model: torch.nn.Module, images: Sequence[ImageInputs]) -> ImageFeatures | None:
    """Return the features of the unique images outside a model call: for generation, no-grad passes and frozen towers.

    Returns None for no images. With a trainable tower under DDP, FSDP or ZeRO do not use this for the policy pass: let
    `shared_logps` encode inside the wrapped model's forward (its default).
    """
    if not images:
        return None
    base = unwrap(model)
    family = family_of(base)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    return encode(family, inner, images, device=device)
