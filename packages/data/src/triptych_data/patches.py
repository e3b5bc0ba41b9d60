"""Pixels in the layout a Qwen-style vision tower reads, kept as bytes until the moment they are needed.

One megapixel is 2.9 MB here and 23 MB as the float32 `pixel_values` it expands to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from triptych_data.pixels import Pixels
from triptych_data.vision import VisionSpec

if TYPE_CHECKING:
    import torch


def to_patches(pixels_HWC: Pixels, *, spec: VisionSpec) -> tuple[Pixels, tuple[int, int]]:
    """(uint8 [patches, 3 * patch * patch], (rows, columns) of patches) of an image that has its final size.

    Patches stand in the order of the merger: blocks of merge x merge, row by row.
    """
    patch, merge = spec.patch_size, spec.merge_size
    rows, columns = pixels_HWC.shape[0] // patch, pixels_HWC.shape[1] // patch
    if pixels_HWC.shape[:2] != (rows * patch, columns * patch) or rows % merge or columns % merge:
        shape = "x".join(map(str, pixels_HWC.shape))
        raise ValueError(f"expected sides that are multiples of {patch * merge}, got {shape}: resize the image first")
    blocks = pixels_HWC.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3)
    ordered = blocks.transpose(0, 3, 1, 4, 6, 2, 5)
    return np.ascontiguousarray(ordered).reshape(rows * columns, 3 * patch * patch), (rows, columns)


def expand(
    patches: Sequence[Pixels],
    grids: Sequence[tuple[int, int]],
    *,
    spec: VisionSpec,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(pixel_values [patches of all images, 3 * temporal * patch * patch], image_grid_thw [images, 3]).

    Equal to the model's own torchvision image processor in float32; another dtype is cast after normalising. The bytes
    go to the device and are expanded there.
    """
    import torch

    area = spec.patch_size**2
    raw = torch.from_numpy(np.concatenate(list(patches)) if len(patches) > 1 else np.array(patches[0]))
    values = raw.to(device).view(-1, 3, 1, area).to(torch.float32)
    scale = 1.0 / spec.rescale_factor
    mean = (torch.tensor(spec.mean) * scale).to(values.device).view(1, 3, 1, 1)
    std = (torch.tensor(spec.std) * scale).to(values.device).view(1, 3, 1, 1)
    values = values.sub_(mean).div_(std)
    if dtype is not None:
        values = values.to(dtype)
    pixel_values = values.expand(-1, -1, spec.temporal_patch_size, -1).reshape(len(raw), -1)
    grid = torch.tensor([[1, rows, columns] for rows, columns in grids], dtype=torch.long, device=device)
    return pixel_values, grid
