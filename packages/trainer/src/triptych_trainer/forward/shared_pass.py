"""The object that goes through one model call, from which the two hooks (merge, attention) know what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from triptych_kernels import MergePlan, merge

from triptych_trainer.forward.attention_choice import AttentionChoice
from triptych_trainer.forward.layout import Group, PackedLayout
from triptych_trainer.forward.merge import ImagePlace, build_plan, check_counts
from triptych_trainer.forward.varlen_attention import SegmentCalls, segment_calls
from triptych_trainer.models.families.features import TokenRows

if TYPE_CHECKING:
    from triptych_trainer.forward.batch import GroupBatch
    from triptych_trainer.models.families import Family, ImageAttention, ImageFeatures

PASS_KWARG = "triptych_pass"


class SharedPass:
    """Describes one forward call: its batch, its layout (None: replicated rows), the merge plan and the attention
    masks.

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
        ids: torch.Tensor,
        places: list[ImagePlace],
        completions: torch.Tensor | None = None,
        features: ImageFeatures | None,
        partial: bool = False,
        prompts_known: bool = False,
        attention: AttentionChoice = "auto",
    ) -> None:
        """Describe one call.

        `features` are those of all images of the batch; None lets the call encode them, and then they are here.
        With `partial` a call places some of them only: the others have their places in other calls. With
        `prompts_known` the call's tokens are those of the branches; the prompts' keys come from its cache.
        `attention` says how branches are attended (`attention_choice`).
        """
        self.attention: AttentionChoice = attention
        self.prompts_known = prompts_known
        self.family = family
        self.vision_model = vision_model
        self.batch = batch
        self.layout = layout
        self.shown = tuple(sorted({image for _, image, _, _ in places})) if partial else tuple(range(len(batch.images)))
        """The images of the batch that have a place in this call."""
        number = {image: k for k, image in enumerate(self.shown)}
        self.places = [(row, number[image], runs, name) for row, image, runs, name in places] if partial else places
        self.plan = build_plan(self.places, shape=(ids.shape[0], ids.shape[1]), num_images=len(self.shown))
        self.rows = TokenRows(
            ids=ids,
            images=self.plan.src >= 0,
            completions=torch.zeros_like(ids, dtype=torch.bool) if completions is None else completions,
            packed=layout is not None,
        )
        self.features = features
        self._masks: dict[tuple[object, ...], torch.Tensor] = {}
        self._segment_calls: dict[tuple[object, ...], SegmentCalls] = {}

    def merge(self, embeds_BTD: torch.Tensor, features: ImageFeatures, plan: MergePlan) -> torch.Tensor:
        """Put the rows of the images shown into their places among the embeddings; `plan` is on their device.

        Raises `BatchError` where an image has another number of feature rows than placeholder tokens.
        """
        check_counts(self.places, features.counts)
        return merge(embeds_BTD, features.rows.to(embeds_BTD.device, embeds_BTD.dtype), plan)

    def extras(self, config: Any, *, device: torch.device) -> dict[str, Any]:
        """Return further keyword arguments of this pass's model call, as its family names them."""
        return {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in self.family.forward_extras(config, self.rows).items()
        }

    def prefix_mask(self, index: int, *, window: int | None, device: torch.device) -> torch.Tensor | None:
        """Return the boolean `[p, p]` mask of a group's prefix, or None if plain causal attention is the same."""
        assert self.layout is not None
        group = self.layout.groups[index]
        limit = window if window is not None and group.prefix > window else None
        attention: ImageAttention = "causal"
        if self.batch.spans[index]:
            text_config = self.family.language_model(self.vision_model).config
            attention = self.family.image_attention(text_config, window=window)
        if limit is None and attention == "causal":
            return None
        key = ("prefix", index, limit, attention, device)
        if key not in self._masks:
            blocks = _blocks(self.rows.images[0, group.start : group.start + group.prefix])
            self._masks[key] = _prefix_mask(blocks, window=limit, attention=attention).to(device)
        return self._masks[key]

    def branch_mask(
        self, index: int, *, first: int, last: int, window: int | None, device: torch.device
    ) -> torch.Tensor | None:
        """Return the boolean `[S, p + S]` mask of branches `first..last` over the prefix and themselves."""
        assert self.layout is not None
        group = self.layout.groups[index]
        longest = group.prefix + max(group.branches[first:last])
        limit = window if window is not None and longest > window else None
        attention = self.branch_attention(index, window=window)
        key = ("branch", index, first, last, limit, attention, device)
        if key not in self._masks:
            begin = group.branch_starts[first]
            blocks = _blocks(self.rows.images[0, begin : begin + sum(group.branches[first:last])])
            mask = _branch_mask(group, first=first, last=last, blocks=blocks, window=limit, attention=attention)
            self._masks[key] = mask.to(device)
        return self._masks[key]

    def segments(self, *, branches_only: bool, window: int | None, device: torch.device) -> SegmentCalls:
        """Return the calls that attend all groups, or the branches of all groups, without masks."""
        assert self.layout is not None
        key = (branches_only, window, device)
        if key not in self._segment_calls:
            groups = self.layout.groups
            self._segment_calls[key] = segment_calls(groups, branches_only=branches_only, window=window, device=device)
        return self._segment_calls[key]

    def prompts_need_masks(self, *, window: int | None) -> bool:
        """Return whether tokens of an image in some prompt see each other in both directions."""
        if not any(self.batch.spans):
            return False
        return (
            self.family.image_attention(self.family.language_model(self.vision_model).config, window=window) != "causal"
        )

    def branch_attention(self, index: int, *, window: int | None) -> ImageAttention:
        """Return how the tokens of images in a group's branches see each other; this is causal if they contain no
        image.
        """
        if not any(self.batch.completion_images[index]):
            return "causal"
        return self.family.image_attention(self.family.language_model(self.vision_model).config, window=window)


def _prefix_mask(blocks: torch.Tensor, *, window: int | None, attention: ImageAttention) -> torch.Tensor:
    """Mask `[p, p]`: causal within the window; tokens of one image (`blocks` numbers them, -1 is text) as asked."""
    positions = torch.arange(len(blocks))
    mask = positions[None, :] <= positions[:, None]
    reach = torch.ones_like(mask) if window is None else positions[None, :] > positions[:, None] - window
    same_image = (blocks[:, None] == blocks[None, :]) & (blocks >= 0)[:, None]
    return _seen(mask, reach, same_image, attention)


def _seen(mask: torch.Tensor, reach: torch.Tensor, same_image: torch.Tensor, attention: ImageAttention) -> torch.Tensor:
    """What is seen, from what causality allows, what the window reaches, and what is of one image."""
    if attention == "both_ways":
        return mask & reach | same_image
    return (mask | same_image if attention == "both_ways_in_window" else mask) & reach


def _blocks(mask_T: torch.Tensor) -> torch.Tensor:
    """Number the runs of True; -1 elsewhere."""
    starts = mask_T & ~torch.nn.functional.pad(mask_T, (1, 0))[:-1]
    return torch.where(mask_T, starts.long().cumsum(0) - 1, -1)


def _branch_mask(
    group: Group, *, first: int, last: int, blocks: torch.Tensor, window: int | None, attention: ImageAttention
) -> torch.Tensor:
    """Mask `[S, p + S]`; `blocks` numbers the images of the S branch tokens, -1 is text."""
    lengths = group.branches[first:last]
    branch_S = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    logical_S = group.prefix + torch.cat([torch.arange(length) for length in lengths])
    branch_K = torch.cat([torch.full((group.prefix,), -1), branch_S])
    logical_K = torch.cat([torch.arange(group.prefix), logical_S])
    mask = (branch_K[None, :] == -1) | (branch_K[None, :] == branch_S[:, None])
    mask &= logical_K[None, :] <= logical_S[:, None]
    reach = torch.ones_like(mask) if window is None else logical_K[None, :] > logical_S[:, None] - window
    blocks_K = torch.cat([torch.full((group.prefix,), -1), blocks])
    same_image = (blocks[:, None] == blocks_K[None, :]) & (blocks >= 0)[:, None]
    return _seen(mask, reach, same_image, attention)
