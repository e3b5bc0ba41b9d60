"""LLaVA: one tile per image and one row per patch with a CLIP or SigLIP tower, any size with a Pixtral tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.features import ImageInputs
from triptych_trainer.models.families.mistral3 import Mistral3Family


class LlavaFamily(Mistral3Family):
    """Takes `pixel_values` `[1, C, H, W]` per image, with `image_sizes` `[1, 2]` if the tower is Pixtral."""

    model_types = ("llava", "vipllava")

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return the rows that follow from the size, if there is one; otherwise they depend on the tower's layer and
        class token.
        """
        return super().num_rows(vision_language_model, image) if "image_sizes" in image else None

    def tower_inputs(
        self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]
    ) -> dict[str, torch.Tensor]:
        """Return the named inputs, and the sizes in any case: below transformers 5.18 the tower takes them without
        naming them.
        """
        inputs, sizes = super().tower_inputs(vision_language_model, images), "image_sizes"
        return inputs | ({sizes: torch.cat([image[sizes] for image in images])} if sizes in images[0] else {})

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return a small image for a Pixtral tower, and an image of their one size for the others."""
        dummy = super().dummy_image(vision_language_model)
        vision = vision_language_model.config.vision_config
        if vision.model_type == "pixtral":
            return dummy
        return {"pixel_values": torch.zeros(1, vision.num_channels, vision.image_size, vision.image_size)}


class OneTileFamily(Family):
    """Takes one tile of one size per image, and needs nothing that the generic adapter does not do."""

    model_types: tuple[str, ...] = ("aria", "deepseek_vl")

    def tower_inputs(
        self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]
    ) -> dict[str, torch.Tensor]:
        """Return the inputs with pixels in the towers' own precision, because these towers take no other."""
        inputs = super().tower_inputs(vision_language_model, images)
        dtype = vision_language_model.dtype
        return {name: values.to(dtype) if values.is_floating_point() else values for name, values in inputs.items()}


class DeepseekHybridFamily(OneTileFamily):
    """Takes one tile of one size, and `high_res_pixel_values` `[1, C, H, W]` of another size for a second tower."""

    model_types = ("deepseek_vl_hybrid",)

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image with one empty square for each tower."""
        side = vision_language_model.config.high_res_vision_config.image_size
        return {
            **super().dummy_image(vision_language_model),
            "high_res_pixel_values": torch.zeros(1, 3, side, side),
        }
