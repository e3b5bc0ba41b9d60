"""Families that cut an image into tiles: InternVL, SmolVLM / Idefics3, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from triptych_trainer.models.families.family import Family, tensors
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs


class InternVLFamily(Family):
    """`pixel_values` `[tiles of all images, C, H, W]`; `num_patches` `[I]` counts the tiles of each image."""

    model_types = ("internvl",)

    def split_images(self, inputs: Mapping[str, torch.Tensor], *, num_images: int) -> tuple[ImageInputs, ...]:
        """Cut the tiles by `num_patches`; without it, one tile per image."""
        tiles = inputs["pixel_values"]
        sizes = torch.as_tensor(inputs.get("num_patches", [1] * num_images)).tolist()
        if len(sizes) != num_images or sum(sizes) != tiles.shape[0]:
            raise ValueError(
                f"expected tiles of {num_images} images, got num_patches {sizes} for {tiles.shape[0]} tiles"
            )
        return tuple({"pixel_values": part} for part in tiles.split(sizes))


class SmolVLMFamily(Family):
    """`pixel_values` `[1, tiles, C, H, W]` and `pixel_attention_mask` `[1, tiles, H, W]` per image.

    Every image is a sample of its own to the processor. The model drops all-zero tiles.
    """

    model_types = ("smolvlm", "idefics3")

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the same number of tiles."""
        return {name: pad_and_cat([image[name] for image in images]) for name in images[0]}

    def num_tiles(self, image: ImageInputs) -> int:
        """The tiles that are not all zero, in the second dimension."""
        return int(image["pixel_values"].flatten(2).any(-1).sum())

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """One tile of ones: an all-zero tile would be dropped as padding."""
        pixels = super().dummy_image(vision_language_model)["pixel_values"]
        return {"pixel_values": torch.ones_like(pixels).unsqueeze(1)}


class LlavaOnevisionFamily(Family):
    """`pixel_values` `[1, tiles, C, H, W]`, `image_sizes` `[1, 2]` and `single` `[1]` per image.

    An image that is alone in its prompt is cut into tiles ("anyres"), an image among several is one tile. The
    processor says which by `batch_num_images`; here every image carries its own flag.
    """

    model_types = ("llava_onevision",)

    def preprocess(self, image_processor: Any, images: Sequence[Any]) -> tuple[ImageInputs, ...]:
        """All images of the prompt together: the processor cuts a lone image into tiles and keeps several whole."""
        if not images:
            return ()
        return self.split_images(
            tensors(image_processor(images=[list(images)], return_tensors="pt")), num_images=len(images)
        )

    def split_images(self, inputs: Mapping[str, torch.Tensor], *, num_images: int) -> tuple[ImageInputs, ...]:
        """One entry per image, with `single` from `batch_num_images` (default: every image alone)."""
        per_prompt = torch.as_tensor(inputs.get("batch_num_images", [1] * num_images)).tolist()
        single = [count == 1 for count in per_prompt for _ in range(count)]
        if len(single) != num_images or inputs["image_sizes"].shape[0] != num_images:
            raise ValueError(f"expected {num_images} images, got {len(single)} by batch_num_images {per_prompt}")
        return tuple(
            {
                "pixel_values": inputs["pixel_values"][i : i + 1],
                "image_sizes": torch.as_tensor(inputs["image_sizes"][i : i + 1]),
                "single": torch.tensor([flag]),
            }
            for i, flag in enumerate(single)
        )

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the same number of tiles."""
        joined = {name: pad_and_cat([image[name] for image in images]) for name in ("pixel_values", "image_sizes")}
        joined["batch_num_images"] = torch.tensor([1] * len(images) if _alone(images[0]) else [max(2, len(images))])
        return joined

    def encode(self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Lone images and images of several-image prompts take one tower call each; rows return in image order."""
        order = sorted(range(len(images)), key=lambda i: not _alone(images[i]))
        cut = sum(_alone(image) for image in images)
        halves = [[images[i] for i in part] for part in (order[:cut], order[cut:]) if part]
        encoded = [super(LlavaOnevisionFamily, self).encode(vision_language_model, half) for half in halves]
        joined = ImageFeatures(
            rows=torch.cat([half.rows for half in encoded]), counts=tuple(c for half in encoded for c in half.counts)
        )
        return joined.select([order.index(i) for i in range(len(images))])

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """One tile, as of an image among several."""
        pixels = super().dummy_image(vision_language_model)["pixel_values"]
        size = torch.tensor([pixels.shape[-2:]])
        return {"pixel_values": pixels.unsqueeze(1), "image_sizes": size, "single": torch.tensor([False])}


def _alone(image: ImageInputs) -> bool:
    """Whether an image was preprocessed as the only one of its prompt: by its flag, or as the processor returned it."""
    flag = image.get("single")
    if flag is None:
        return int(image["batch_num_images"]) == 1 if "batch_num_images" in image else True
    return bool(flag)


def pad_and_cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate along dimension 0 after zero-padding dimension 1 to the longest."""
    longest = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part, (0, 0) * (part.dim() - 2) + (0, longest - part.shape[1])) for part in parts]
    return torch.cat(padded)
