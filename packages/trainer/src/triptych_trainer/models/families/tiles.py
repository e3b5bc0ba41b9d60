"""Families that cut an image into tiles: InternVL, Aya, SmolVLM / Idefics, LLaVA-NeXT, LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from triptych_trainer.models.families.family import Family, tensors
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs
from triptych_trainer.upstream.transformers_names import rows_by_tile


class InternVLFamily(Family):
    """Takes `pixel_values` `[tiles, C, H, W]` per image; every tile gives the same number of rows."""

    model_types = ("internvl", "aya_vision", "cohere2_vision", "qianfan_ocr")


class SmolVLMFamily(Family):
    """Takes `pixel_values` `[1, tiles, C, H, W]` and `pixel_attention_mask` `[1, tiles, H, W]` per image.

    Every image is a sample of its own to the processor. The model drops all-zero tiles.
    """

    model_types: tuple[str, ...] = ("smolvlm", "idefics3")

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the same number of tiles."""
        return {name: pad_and_cat([image[name] for image in images]) for name in images[0]}

    def num_tiles(self, image: ImageInputs) -> int:
        """Return the tiles that are not all zero, in the second dimension."""
        return int(image["pixel_values"].flatten(2).any(-1).sum())

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one tile of ones, because an all-zero tile would be dropped as padding."""
        pixels = super().dummy_image(vision_language_model)["pixel_values"]
        return {"pixel_values": torch.ones_like(pixels).unsqueeze(1)}


class Idefics2Family(SmolVLMFamily):
    """Takes images of any size as SmolVLM does: `pixel_attention_mask` marks the padding at the bottom and right."""

    model_types = ("idefics2",)

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the largest height and width, then to the same number of tiles."""
        height = max(image["pixel_values"].shape[-2] for image in images)
        width = max(image["pixel_values"].shape[-1] for image in images)

        def grow(values: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]))

        return super().collate_images([{name: grow(values) for name, values in image.items()} for image in images])

    def read_features(self, output: Any, *, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Return the rows of each image, as many for each tile."""
        num_tiles = sum(self.num_tiles(image) for image in images)
        output.pooler_output = rows_by_tile(output.pooler_output, num_tiles)
        return super().read_features(output, images=images)

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one tile of two by two patches of ones."""
        vision = vision_language_model.config.vision_config
        side = 2 * vision.patch_size
        return {"pixel_values": torch.ones(1, 1, vision.num_channels, side, side)}


class LlavaNextFamily(Family):
    """Takes `pixel_values` `[1, tiles, C, H, W]` and `image_sizes` `[1, 2]` per image, however many the prompt
    contains.
    """

    model_types = ("llava_next", "llava_next_video")

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the same number of tiles; the model knows from the size how many are the image's."""
        return {name: pad_and_cat([image[name] for image in images]) for name in images[0]}

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return the smallest image that the grid allows."""
        config = vision_language_model.config
        tile = config.vision_config.image_size
        height, width = min(config.image_grid_pinpoints, key=lambda size: size[0] * size[1])
        num_tiles = 1 + (height // tile) * (width // tile)
        pixels = torch.zeros(1, num_tiles, config.vision_config.num_channels, tile, tile)
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[height, width]])}


class LlavaOnevisionFamily(Family):
    """Takes `pixel_values` `[1, tiles, C, H, W]`, `image_sizes` `[1, 2]` and `single` `[1]` per image.

    An image that is alone in its prompt is cut into tiles ("anyres"), an image among several is one tile. The
    processor says which by `batch_num_images`; here every image carries its own flag. What arrives in one turn counts
    as a prompt of its own: the images before it stay as they were sampled.
    """

    model_types = ("llava_onevision",)

    def preprocess(self, image_processor: Any, images: Sequence[Any]) -> tuple[ImageInputs, ...]:
        """Prepare all images of the prompt together: the processor cuts a lone image into tiles and keeps several
        whole.
        """
        if not images:
            return ()
        return _one_by_one(tensors(image_processor(images=[list(images)], return_tensors="pt")), num_images=len(images))

    def preprocess_arrived(self, image_processor: Any, image: Any, *, alone: bool) -> ImageInputs:
        """Cut an image into tiles if it is alone in its turn."""
        return self.preprocess(image_processor, [image] if alone else [image, image])[0]

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Pad every image to the same number of tiles."""
        joined = {name: pad_and_cat([image[name] for image in images]) for name in ("pixel_values", "image_sizes")}
        joined["batch_num_images"] = torch.tensor([1] * len(images) if _alone(images[0]) else [max(2, len(images))])
        return joined

    def encode(self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Encode lone images and images of several-image prompts by one call of the tower each; rows return in the
        order of the images.
        """
        order = sorted(range(len(images)), key=lambda i: not _alone(images[i]))
        cut = sum(_alone(image) for image in images)
        halves = [[images[i] for i in part] for part in (order[:cut], order[cut:]) if part]
        encoded = [super(LlavaOnevisionFamily, self).encode(vision_language_model, half) for half in halves]
        return ImageFeatures.join(encoded).select([order.index(i) for i in range(len(images))])

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one tile, as of an image among several."""
        pixels = super().dummy_image(vision_language_model)["pixel_values"]
        size = torch.tensor([pixels.shape[-2:]])
        return {"pixel_values": pixels.unsqueeze(1), "image_sizes": size, "single": torch.tensor([False])}


def _one_by_one(inputs: Mapping[str, torch.Tensor], *, num_images: int) -> tuple[ImageInputs, ...]:
    """One entry per image of a prompt, with `single` from `batch_num_images` (default: every image alone)."""
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
