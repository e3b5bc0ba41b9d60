"""Patches packed along one axis; Qwen2-VL and Qwen2.5-VL with multimodal rotary positions (M-RoPE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from triptych_trainer.models.families.family import Family
from triptych_trainer.models.families.features import ImageInputs

if TYPE_CHECKING:
    from triptych_parser import ImageSpan


class PatchGridFamily(Family):
    """Takes `pixel_values` `[t*h*w, C*T*P*P]` and `image_grid_thw` `[1, 3]` per image; t*h*w / merge**2 rows."""

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return one row per merge x merge patches."""
        merge = vision_language_model.config.vision_config.spatial_merge_size
        return int(image["image_grid_thw"].prod()) // merge**2

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of the smallest even grid: merge x merge patches, doubled for window attention."""
        vision: Any = vision_language_model.config.vision_config
        side = 2 * vision.spatial_merge_size
        channels = getattr(vision, "in_channels", 0) or getattr(vision, "in_chans", 3)
        width = channels * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2
        return {"pixel_values": torch.zeros(side * side, width), "image_grid_thw": torch.tensor([[1, side, side]])}


class Exaone45Family(PatchGridFamily):
    """Takes the patch grid, and lets `generate` compute positions again from the padded row."""

    model_types = ("exaone4_5", "hyperclovax_vision_v2")
    generate_counts_pads = True


class VideoLlama3Family(PatchGridFamily):
    """Takes the patch grid, and `image_merge_sizes` `[1]` per image: how many patches a side make a row."""

    model_types = ("video_llama_3",)

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return one row per merge x merge patches."""
        return int(image["image_grid_thw"].prod()) // int(image["image_merge_sizes"]) ** 2

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return an image of one row of one patch."""
        vision = vision_language_model.config.vision_config
        return {
            "pixel_values": torch.zeros(1, vision.num_channels * vision.patch_size**2),
            "image_grid_thw": torch.tensor([[1, 1, 1]]),
            "image_merge_sizes": torch.tensor([1]),
        }


class QwenVLFamily(PatchGridFamily):
    """Takes the patch grid with multimodal rotary positions (M-RoPE)."""

    model_types: tuple[str, ...] = ("qwen2_vl", "qwen2_5_vl")

    def positions(
        self,
        vision_language_model: torch.nn.Module,
        ids: Sequence[int],
        *,
        spans: Sequence[ImageSpan],
        images: Sequence[ImageInputs],
    ) -> tuple[torch.Tensor, int]:
        """Return the M-RoPE positions `[3, L]` by the model's own `get_rope_index`, for this one prompt."""
        ids_1L = torch.tensor([list(ids)])
        types_1L = torch.zeros_like(ids_1L, dtype=torch.int)
        for span in spans:
            for start, length in span.runs:
                types_1L[0, start : start + length] = 1
        grids = [image["image_grid_thw"].cpu() for image in images]
        positions_31L, _ = vision_language_model.get_rope_index(
            ids_1L, mm_token_type_ids=types_1L, image_grid_thw=torch.cat(grids) if grids else None
        )
        positions_3L = positions_31L[:, 0]
        return positions_3L, int(positions_3L.max()) + 1

    def continue_generation(
        self, vision_language_model: torch.nn.Module, *, next_minus_length_B: torch.Tensor
    ) -> dict[str, Any]:
        """Set `rope_deltas`, which `generate` adds to the text positions when it finds a filled cache."""
        vision_language_model.rope_deltas = next_minus_length_B.unsqueeze(1)
        return {}
