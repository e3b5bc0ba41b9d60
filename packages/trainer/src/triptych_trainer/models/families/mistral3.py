"""Mistral 3 (and LLaVA with a Pixtral tower): images of any size, padded to the largest for one call of the tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.features import ImageInputs


class Mistral3Family(Family):
    """Takes `pixel_values` `[1, C, H, W]` and `image_sizes` `[1, 2]` per image; a row per merge x merge patches."""

    model_types: tuple[str, ...] = ("mistral3", "lighton_ocr")

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return the rows that follow from the image's size."""
        rows, columns = (int(side) // _row_pixels(vision_language_model) for side in image["image_sizes"][0])
        return rows * columns

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image at its bottom and right to the largest; `image_sizes` keeps the padding out of the tower."""
        height = max(image["pixel_values"].shape[-2] for image in images)
        width = max(image["pixel_values"].shape[-1] for image in images)
        padded = []
        for image in images:
            pixels = image["pixel_values"]
            margins = (0, width - pixels.shape[-1], 0, height - pixels.shape[-2])
            padded.append({**image, "pixel_values": torch.nn.functional.pad(pixels, margins)})
        return super().collate_images(padded)

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of four rows: `image_size` would cost more, and transformers cannot split off one row."""
        side = 2 * _row_pixels(vision_language_model)
        return {"pixel_values": torch.zeros(1, 3, side, side), "image_sizes": torch.tensor([[side, side]])}


def _row_pixels(vision_language_model: torch.nn.Module) -> int:
    config = vision_language_model.config
    return config.vision_config.patch_size * getattr(config, "spatial_merge_size", 1)
