"""The object that travels through one model call and tells the two seams (merge, attention) what this call is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from triptych_kernels import MergePlan, merge

from triptych_trainer.forward.layout import Group, PackedLayout
from triptych_trainer.forward.merge import ImagePlace, build_plan, check_counts

if TYPE_CHECKING:
    from triptych_trainer.forward.batch import GroupBatch
    from triptych_trainer.models.families import Family, ImageFeatures

PASS_KWARG = "triptych_pass"


class SharedPass:
    """One forward call: its batch, its layout (None: replicated rows), the merge plan and the attention masks.

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
        places: list[ImagePlace],
        features: ImageFeatures | None,
    ) -> None:
        self.family = family
        self.vision_model = vision_model
        self.batch = batch
        self.layout = layout
        self.places = places
        self.plan = build_plan(places, shape=shape, num_images=len(batch.images))
        self.features = features
        self._masks: dict[tuple[object, ...], torch.Tensor] = {}

    def merge(self, embeds_BTD: torch.Tensor, features: ImageFeatures, plan: MergePlan) -> torch.Tensor:
        """Put the feature rows into their places among the token embeddings; `plan` is this pass's, on their device.

        Raises `BatchError` where an image has another number of feature rows than placeholder tokens.
        """
        check_counts(self.places, features.counts)
        return merge(embeds_BTD, features.rows.to(embeds_BTD.device, embeds_BTD.dtype), plan)

    def image_mask(self) -> torch.Tensor:
        """Return a boolean `[B, T]` (CPU) that is True where a feature row goes."""
        return self.plan.src >= 0

    def prefix_mask(self, index: int, *, window: int | None, device: torch.device) -> torch.Tensor | None:
        """Boolean `[p, p]` mask of a group's prefix, or None where plain causal attention says it all."""
        assert self.layout is not None
        group = self.layout.groups[index]
        limit = window if window is not None and group.prefix > window else None
        bidirectional = self.family.bidirectional_images and bool(self.batch.spans[index])
        if limit is None and not bidirectional:
            return None
        key = ("prefix", index, limit, device)
        if key not in self._masks:
            blocks = _blocks(self.image_mask()[0, group.start : group.start + group.prefix]) if bidirectional else None
            self._masks[key] = _prefix_mask(group.prefix, window=limit, blocks=blocks).to(device)
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


def _prefix_mask(length: int, *, window: int | None, blocks: torch.Tensor | None) -> torch.Tensor:
    """(causal, or both in the same image) and, where there is a window, not further back than it reaches."""
    positions = torch.arange(length)
    mask = positions[None, :] <= positions[:, None]
    if blocks is not None:
        mask |= (blocks[:, None] == blocks[None, :]) & (blocks >= 0)[:, None]
    return mask if window is None else mask & (positions[None, :] > positions[:, None] - window)


def _blocks(mask_T: torch.Tensor) -> torch.Tensor:
    """Number the runs of True; -1 elsewhere."""
    starts = mask_T & ~torch.nn.functional.pad(mask_T, (1, 0))[:-1]
    return torch.where(mask_T, starts.long().cumsum(0) - 1, -1)


def _branch_mask(group: Group, *, first: int, last: int, window: int | None) -> torch.Tensor:
    lengths = group.branches[first:last]
    branch_S = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    logical_S = group.prefix + torch.cat([torch.arange(length) for length in lengths])
    branch_K = torch.cat([torch.full((group.prefix,), -1), branch_S])
    logical_K = torch.cat([torch.arange(group.prefix), logical_S])
    mask = (branch_K[None, :] == -1) | (branch_K[None, :] == branch_S[:, None])
    mask &= logical_K[None, :] <= logical_S[:, None]
    return mask if window is None else mask & (logical_K[None, :] > logical_S[:, None] - window)
