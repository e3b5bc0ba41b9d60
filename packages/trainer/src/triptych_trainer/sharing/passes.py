"""The object that travels through one model call and tells the two seams (merge, attention) what this call is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from triptych_kernels import MergePlan, merge

from triptych_trainer.sharing.layout import Group, PackedLayout
from triptych_trainer.sharing.merge import image_sources

if TYPE_CHECKING:
    from triptych_trainer.families import Family, ImageFeatures
    from triptych_trainer.sharing.batch import GroupBatch

PASS_KWARG = "triptych_pass"


class SharedPass:
    """One forward call: its batch, its layout (None: replicated rows), the merge's runs and the attention masks.

    Deliberately neither a dataclass nor a container: FSDP and accelerate walk into those and would cast or copy what
    is inside. It stays alive until the backward pass, because gradient checkpointing runs the layers again with it.
    """

    def __init__(
        self,
        *,
        family: Family,
        vision_model: torch.nn.Module,
        batch: GroupBatch,
        layout: PackedLayout | None,
        shape: tuple[int, int],
        placements: list[tuple[int, int, int]],
        features: ImageFeatures | None,
        block_ids: torch.Tensor | None = None,
    ) -> None:
        self.family = family
        self.vision_model = vision_model
        self.batch = batch
        self.layout = layout
        self.shape = shape
        self.placements = placements
        self.features = features
        self.block_ids = block_ids
        self._masks: dict[tuple[object, ...], torch.Tensor | None] = {}

    def merge(self, embeds_BTD: torch.Tensor, features: ImageFeatures, plan: MergePlan) -> torch.Tensor:
        """Put the feature rows into their places of the token embeddings."""
        rows_ND = features.rows.to(embeds_BTD.device, embeds_BTD.dtype)
        return merge(embeds_BTD, rows_ND, plan)

    def image_mask(self) -> torch.Tensor:
        """Boolean `[B, T]` (CPU): True where a feature row goes."""
        return image_sources(self.batch, shape=self.shape, placements=self.placements) >= 0

    def prefix_mask(self, index: int, *, window: int | None, device: torch.device) -> torch.Tensor | None:
        """Boolean `[p, p]` mask of a group's prefix, or None where plain causal attention says it all."""
        assert self.layout is not None
        group = self.layout.groups[index]
        windowed = window is not None and group.prefix > window
        if not windowed and self.block_ids is None:
            return None
        key = ("prefix", index, window if windowed else None, device)
        if key not in self._masks:
            positions = torch.arange(group.prefix, device=device)
            mask = _causal(positions, positions, window=window if windowed else None)
            if self.block_ids is not None:
                blocks = self.block_ids[group.start : group.start + group.prefix].to(device)
                mask |= (blocks[:, None] == blocks[None, :]) & (blocks >= 0)[:, None]
            self._masks[key] = mask
        return self._masks[key]

    def branch_mask(
        self, index: int, *, first: int, last: int, window: int | None, device: torch.device
    ) -> torch.Tensor | None:
        """Boolean `[S, p + S]` mask of branches `first..last` over the prefix and themselves."""
        assert self.layout is not None
        group = self.layout.groups[index]
        longest = group.prefix + max(group.branches[first:last])
        limit = window if window is not None and longest > window else None
        key = ("branch", index, first, last, limit, device)
        if key not in self._masks:
            self._masks[key] = _branch_mask(group, first=first, last=last, window=limit).to(device)
        return self._masks[key]


def _causal(queries_S: torch.Tensor, keys_K: torch.Tensor, *, window: int | None) -> torch.Tensor:
    mask = keys_K[None, :] <= queries_S[:, None]
    if window is not None:
        mask &= keys_K[None, :] > queries_S[:, None] - window
    return mask


def _branch_mask(group: Group, *, first: int, last: int, window: int | None) -> torch.Tensor:
    lengths = group.branches[first:last]
    branch_S = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    logical_S = group.prefix + torch.cat([torch.arange(length) for length in lengths])
    branch_K = torch.cat([torch.full((group.prefix,), -1), branch_S])
    logical_K = torch.cat([torch.arange(group.prefix), logical_S])
    visible = (branch_K[None, :] == -1) | (branch_K[None, :] == branch_S[:, None])
    return visible & _causal(logical_S, logical_K, window=window)
