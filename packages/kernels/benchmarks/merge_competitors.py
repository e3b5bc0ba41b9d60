"""Other ways to do what the merge does, each as its users write it, by group; every row takes a `Batch`.

A row returns the tensors that are compared with the reference after timing. `copy_limit` is not a competitor: it moves
as many bytes as the result has, by plain copies.
"""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import torch
import triptych_kernels as tk
from merge_cases import PLACEHOLDER, Batch
from triptych_kernels import MergePlan
from triptych_kernels.ops.gradients import features_grad, text_grad

Tensors = tuple[torch.Tensor, ...]
Row = Callable[[Batch], Tensors]
Merge = Callable[[Batch, torch.Tensor, torch.Tensor], torch.Tensor]
"""(batch, embedded rows, features) -> merged rows, by autograd's rules."""


def transformers_mask(batch: Batch, embeds_BTD: torch.Tensor, features_SD: torch.Tensor) -> torch.Tensor:
    """The placeholder mask by transformers' own function, with its check of the total."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    model = SimpleNamespace(config=SimpleNamespace(image_token_id=PLACEHOLDER, video_token_id=PLACEHOLDER - 1))
    return Qwen2_5_VLModel.get_placeholder_mask(model, batch.ids, embeds_BTD, image_features=features_SD)[0]


def repeated(batch: Batch, features_ND: torch.Tensor) -> torch.Tensor:
    """The features once per row of the group, [S, D], as ops without shared rows need them."""
    return features_ND.repeat(batch.case.group, 1) if batch.case.group > 1 else features_ND


def masked_scatter_rows(batch: Batch, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    """As transformers' models write it."""
    features_SD = repeated(batch, features_ND)
    return embeds_BTD.masked_scatter(transformers_mask(batch, embeds_BTD, features_SD), features_SD)


def index_copy_rows(batch: Batch, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    flat_RD = embeds_BTD.view(-1, batch.case.hidden)
    return flat_RD.index_copy(0, batch.slots, repeated(batch, features_ND)).view_as(embeds_BTD)


def index_copy_in_place(batch: Batch) -> torch.Tensor:
    """As inference engines write it, into rows that nobody needs unmerged; it leaves the text rows where they are."""
    batch.overwritten.view(-1, batch.case.hidden).index_copy_(0, batch.slots, repeated(batch, batch.features))
    return batch.overwritten


def where_gather(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, src_BT: torch.Tensor) -> torch.Tensor:
    return torch.where((src_BT >= 0)[..., None], features_ND[src_BT.clamp(min=0)], embeds_BTD)


def scatter_add(grad_RD: torch.Tensor, slots: torch.Tensor, feature_S: torch.Tensor, num_features: int) -> torch.Tensor:
    """The backward of a gather: an unordered sum in the gradient's own dtype."""
    return grad_RD.new_zeros(num_features, grad_RD.shape[1]).index_add(0, feature_S, grad_RD[slots])


@cache
def compiled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function compiled; only where it is called, because torch's compiler takes seconds to import."""
    return torch.compile(function, dynamic=False)


def _grad_rows(batch: Batch) -> torch.Tensor:
    return batch.grad.view(-1, batch.case.hidden)


def _per_feature(batch: Batch, rows_SD: torch.Tensor) -> torch.Tensor:
    """[S, D] in row order -> [N, D]: what autograd does for `repeated`."""
    group = batch.case.group
    return rows_SD if group == 1 else rows_SD.view(group, -1, batch.case.hidden).sum(0)


def _feature_of_slot(batch: Batch) -> torch.Tensor:
    return batch.plan.src.flatten()[batch.slots]


MERGES: dict[str, Merge] = {
    "triptych": lambda b, embeds, features: tk.merge(embeds, features, b.plan),
    "transformers_masked_scatter": masked_scatter_rows,
    "index_copy": index_copy_rows,
    "where_gather": lambda b, embeds, features: where_gather(embeds, features, b.plan.src),
    "compiled_where_gather": lambda b, embeds, features: compiled(where_gather)(embeds, features, b.plan.src),
}


def forward_row(merge: Merge) -> Row:
    return lambda b: (merge(b, b.embeds, b.features),)


def forward_backward_row(merge: Merge, *, embeds_too: bool) -> Row:
    """Forward and backward; the gradients are returned: the features', and the embedded rows' where asked."""

    def run(batch: Batch) -> Tensors:
        features_ND = batch.features.detach().requires_grad_()
        embeds_BTD = batch.embeds.detach().requires_grad_(embeds_too)
        merge(batch, embeds_BTD, features_ND).backward(batch.grad)
        leaves = (features_ND, embeds_BTD) if embeds_too else (features_ND,)
        return tuple(leaf.grad for leaf in leaves)

    return run


def features_limit(batch: Batch) -> torch.Tensor:
    """A copy of as many gradient rows as there are image positions."""
    return _grad_rows(batch)[: batch.plan.num_slots].clone()


def forward_backward_limit(batch: Batch, *, embeds_too: bool) -> Tensors:
    """A copy of the forward's result, dropped, then copies of the gradients."""
    batch.embeds.clone()
    return (features_limit(batch), batch.grad.clone()) if embeds_too else (features_limit(batch),)


GROUPS: dict[str, dict[str, Row]] = {
    "forward": {name: forward_row(merge) for name, merge in MERGES.items()}
    | {
        "index_copy_in_place": lambda b: (index_copy_in_place(b),),
        "copy_limit": lambda b: (b.embeds.clone(),),
    },
    "forward+backward": {name: forward_backward_row(merge, embeds_too=True) for name, merge in MERGES.items()}
    | {"copy_limit": lambda b: forward_backward_limit(b, embeds_too=True)},
    "forward+backward-features": {name: forward_backward_row(merge, embeds_too=False) for name, merge in MERGES.items()}
    | {"copy_limit": lambda b: forward_backward_limit(b, embeds_too=False)},
    "feature-backward": {
        "triptych": lambda b: (features_grad(b.grad, b.plan.index, b.plan.num_features),),
        "transformers_masked_scatter": lambda b: (
            _per_feature(b, b.grad.masked_select(b.mask[..., None]).view(-1, b.case.hidden)),
        ),
        "index_copy": lambda b: (_per_feature(b, _grad_rows(b).index_select(0, b.slots)),),
        "where_gather": lambda b: (scatter_add(_grad_rows(b), b.slots, _feature_of_slot(b), b.plan.num_features),),
        "compiled_where_gather": lambda b: (
            compiled(scatter_add)(_grad_rows(b), b.slots, _feature_of_slot(b), b.plan.num_features),
        ),
        "copy_limit": lambda b: (features_limit(b),),
    },
    "text-backward": {
        "triptych": lambda b: (text_grad(b.grad, b.plan.index),),
        "transformers_masked_scatter": lambda b: (b.grad.masked_fill(b.mask[..., None], 0),),
        "index_copy": lambda b: (_grad_rows(b).index_fill(0, b.slots, 0).view_as(b.grad),),
        "where_gather": lambda b: (torch.where(b.mask[..., None], 0, b.grad),),
        "copy_limit": lambda b: (b.grad.clone(),),
    },
    "plan": {
        "triptych": lambda b: (
            MergePlan.from_images(b.plan.shape, b.places, features_per_image=b.features_per_image)
            .to(b.case.device)
            .index,
        ),
        "transformers_masked_scatter": lambda b: (transformers_mask(b, b.embeds, repeated(b, b.features)),),
        "index_copy": lambda b: (b.mask.flatten().nonzero().flatten(),),
    },
}
"""Rows by group; the first row of each is ours."""

REFERENCES: dict[str, Row] = {
    "forward": lambda b: (tk.reference.merge(b.embeds, b.features, b.plan),),
    "forward+backward": lambda b: (
        tk.reference.features_grad(b.grad, b.plan),
        tk.reference.text_grad(b.grad, b.plan),
    ),
    "forward+backward-features": lambda b: (tk.reference.features_grad(b.grad, b.plan),),
    "feature-backward": lambda b: (tk.reference.features_grad(b.grad, b.plan),),
    "text-backward": lambda b: (tk.reference.text_grad(b.grad, b.plan),),
}


def moved_bytes(group: str, batch: Batch) -> int:
    """Bytes that the op must read and write at the least, index arrays left out."""
    rows, slots, features = batch.ids.numel(), batch.plan.num_slots, batch.plan.num_features
    forward, features_back, text_back = 2 * rows - slots + features, slots + features, 2 * rows - slots
    moved_rows = {
        "forward": forward,
        "forward+backward": forward + features_back + text_back,
        "forward+backward-features": forward + features_back,
        "feature-backward": features_back,
        "text-backward": text_back,
    }
    return moved_rows.get(group, 0) * batch.row_bytes
