"""Families whose images are patches without tiles or positions of their own: Kimi-K2.5, LFM2-VL, MiniCPM-V."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from triptych_trainer.models.families.family import Family, SharingPath
from triptych_trainer.models.families.features import ImageInputs


class KimiVLFamily(Family):
    """Takes `pixel_values` `[patches, C, P, P]` and `image_grid_thw` `[1, 3]` per image; a row per merged square."""

    model_types = ("kimi_k25",)

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return one row per merge x merge patches."""
        rows, columns = vision_language_model.config.vision_config.merge_kernel_size
        return int(image["image_grid_thw"].prod()) // (rows * columns)

    def tower_inputs(
        self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]
    ) -> dict[str, torch.Tensor]:
        """Return the inputs with pixels in the tower's own precision, because it takes no other."""
        inputs = super().tower_inputs(vision_language_model, images)
        return inputs | {"pixel_values": inputs["pixel_values"].to(vision_language_model.dtype)}

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one row."""
        vision = vision_language_model.config.vision_config
        rows, columns = vision.merge_kernel_size
        pixels = torch.zeros(rows * columns, 3, vision.patch_size, vision.patch_size)
        return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, rows, columns]])}


class Lfm2VLFamily(Family):
    """Takes `pixel_values` `[tiles, patches, D]`, `spatial_shapes` `[tiles, 2]` and `pixel_attention_mask` per image.

    Most layers of the text backbone convolve over the tokens, so that prompts share a cache.
    """

    model_types = ("lfm2_vl",)
    path = "cache"

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one tile of one row."""
        config = vision_language_model.config
        side, vision = config.downsample_factor, config.vision_config
        return {
            "pixel_values": torch.zeros(1, side * side, vision.num_channels * vision.patch_size**2),
            "spatial_shapes": torch.tensor([[side, side]]),
            "pixel_attention_mask": torch.ones(1, side * side, dtype=torch.long),
        }


class MiniCPMVFamily(Family):
    """Takes `pixel_values` `[1, C, P, patches * P]` and `target_sizes` `[slices, 2]` per image, with slices next to
    each other.
    """

    model_types: tuple[str, ...] = ("minicpmv4_6",)
    least_transformers: tuple[int, int] = (5, 19)  # before, its tower takes all images for as large as the first
    path: SharingPath = "cache"

    def num_tiles(self, image: ImageInputs) -> int:
        """Return one entry per slice."""
        return image["target_sizes"].shape[0]

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Put the slices of all images next to each other."""
        pixels = torch.cat([image["pixel_values"] for image in images], dim=-1)
        return {"pixel_values": pixels, "target_sizes": torch.cat([image["target_sizes"] for image in images])}

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one slice of one row."""
        vision = vision_language_model.config.vision_config
        side = 4
        pixels = torch.zeros(1, vision.num_channels, vision.patch_size, side * side * vision.patch_size)
        return {"pixel_values": pixels, "target_sizes": torch.tensor([[side, side]], dtype=torch.int32)}


class MiniCPMOcrFamily(MiniCPMVFamily):
    """Takes the same images before a text backbone of full attention."""

    model_types = ("minicpm_ocr",)
    path = "packed"
