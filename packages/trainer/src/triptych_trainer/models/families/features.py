"""An image as the vision tower takes it, and what the tower makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

ImageInputs = Mapping[str, torch.Tensor]
"""What the image processor returned for ONE image: every tensor's first dimension counts that image's own patches,
tiles or images (`pixel_values` [patches, C*T*P*P] and `image_grid_thw` [1, 3] for the Qwen family)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """Contains the feature rows `[N, D]` of I images, in their order; `counts[i]` rows belong to image i."""

    rows: torch.Tensor
    counts: tuple[int, ...]
    deepstack: tuple[torch.Tensor, ...] = ()
    """Further `[N, D]` rows that are added to the first decoder layers (Qwen3-VL), one tensor per layer."""
    common: torch.Tensor | None = None
    """Rows `[K, D]` that the tower makes next to those of the images, the same for all images (Ovis2)."""

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Return the features of several calls of one tower as those of one call."""
        return cls(
            rows=torch.cat([part.rows for part in parts]),
            counts=tuple(count for part in parts for count in part.counts),
            deepstack=tuple(torch.cat(rows) for rows in zip(*(part.deepstack for part in parts), strict=True)),
            common=parts[0].common,
        )

    def select(self, images: Sequence[int]) -> ImageFeatures:
        """Return the features of some images, in the given order (it pairs with `GroupBatch.select`)."""
        if tuple(images) == tuple(range(len(self.counts))):
            return self

        def pick(rows_ND: torch.Tensor) -> torch.Tensor:
            parts = rows_ND.split(list(self.counts))
            return torch.cat([parts[i] for i in images]) if images else rows_ND[:0]

        return ImageFeatures(
            rows=pick(self.rows),
            counts=tuple(self.counts[i] for i in images),
            deepstack=tuple(pick(rows_ND) for rows_ND in self.deepstack),
            common=self.common,
        )

    def detach(self) -> ImageFeatures:
        """Return the same rows outside the graph; they are safe to keep across passes while the tower is frozen."""
        return ImageFeatures(
            rows=self.rows.detach(),
            counts=self.counts,
            deepstack=tuple(rows_ND.detach() for rows_ND in self.deepstack),
            common=None if self.common is None else self.common.detach(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Contains the token rows of one model call, for what an adapter derives from them; all tensors are `[B, T]` on the
    CPU.
    """

    ids: torch.Tensor
    images: torch.Tensor
    """True where a feature row goes."""
    completions: torch.Tensor
    """True at the tokens of completions."""
    packed: bool
    """Whether this is the packed row, whose masks the attention function makes, or ordinary rows."""
