"""Other ways to do what the merge ops do, each as its users write it, by group; every row takes a `Batch`.

A row returns the tensor that is compared with the reference after timing. `copy_limit` is not a competitor: it moves as
many bytes of the result as a plain copy can.
"""

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import triptych_kernels as tk
from merge_cases import PLACEHOLDER, Batch
from triptych_kernels import MergePlan
from triptych_kernels.ops.gradients import features_grad

Row = Callable[[Batch], torch.Tensor]
Merge = Callable[[Batch, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(batch, weight, features, ids) -> merged rows, by autograd's rules."""


def transformers_mask(batch: Batch, embeds_BTD: torch.Tensor, features_SD: torch.Tensor) -> torch.Tensor:
    """The placeholder mask by transformers' own function, with its check of the total."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    model = SimpleNamespace(config=SimpleNamespace(image_token_id=PLACEHOLDER, video_token_id=PLACEHOLDER - 1))
    return Qwen2_5_VLModel.get_placeholder_mask(model, batch.ids, embeds_BTD, image_features=features_SD)[0]


def repeated(batch: Batch, features_ND: torch.Tensor) -> torch.Tensor:
    """The features once per row of the group, [S, D], as ops without shared rows need them."""
    return features_ND.repeat(batch.case.group, 1) if batch.case.group > 1 else features_ND


def masked_scatter_rows(batch: Batch, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    features_SD = repeated(batch, features_ND)
    return embeds_BTD.masked_scatter(transformers_mask(batch, embeds_BTD, features_SD), features_SD)


def index_copy_rows(batch: Batch, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    flat_RD = embeds_BTD.view(-1, batch.case.hidden)
    return flat_RD.index_copy(0, batch.slots, repeated(batch, features_ND)).view_as(embeds_BTD)


def index_copy_rows_(batch: Batch, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    """In place: fair where the caller has just made the rows."""
    embeds_BTD.view(-1, batch.case.hidden).index_copy_(0, batch.slots, repeated(batch, features_ND))
    return embeds_BTD


def where_gather_rows(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, src_BT: torch.Tensor) -> torch.Tensor:
    return torch.where((src_BT >= 0)[..., None], features_ND[src_BT.clamp(min=0)], embeds_BTD)


def embed_where_gather(
    weight_VD: torch.Tensor, ids_BT: torch.Tensor, features_ND: torch.Tensor, src_BT: torch.Tensor
) -> torch.Tensor:
    return where_gather_rows(F.embedding(ids_BT, weight_VD), features_ND, src_BT)


def scatter_add(grad_RD: torch.Tensor, slots: torch.Tensor, feature_S: torch.Tensor, num_features: int) -> torch.Tensor:
    """The backward of a gather: an unordered sum in the gradient's own dtype."""
    return grad_RD.new_zeros(num_features, grad_RD.shape[1]).index_add(0, feature_S, grad_RD[slots])


compiled_where_gather_rows = torch.compile(where_gather_rows, dynamic=False)
compiled_embed_where_gather = torch.compile(embed_where_gather, dynamic=False)
compiled_scatter_add = torch.compile(scatter_add, dynamic=False)


def _grad_rows(batch: Batch) -> torch.Tensor:
    return batch.grad.view(-1, batch.case.hidden)


def _per_feature(batch: Batch, rows_SD: torch.Tensor) -> torch.Tensor:
    """[S, D] in row order -> [N, D]: what autograd does for `repeated`."""
    group = batch.case.group
    return rows_SD if group == 1 else rows_SD.view(group, -1, batch.case.hidden).sum(0)


def _feature_of_slot(batch: Batch) -> torch.Tensor:
    return batch.plan.src.flatten()[batch.slots]


MERGES: dict[str, Merge] = {
    "triptych": lambda b, weight, features, ids: tk.embed_and_merge(weight, ids, features, b.plan),
    "transformers_masked_scatter": lambda b, weight, features, ids: masked_scatter_rows(
        b, F.embedding(ids, weight), features
    ),
    "index_copy": lambda b, weight, features, ids: index_copy_rows_(b, F.embedding(ids, weight), features),
    "where_gather": lambda b, weight, features, ids: embed_where_gather(weight, ids, features, b.plan.src),
    "compiled_where_gather": lambda b, weight, features, ids: compiled_embed_where_gather(
        weight, ids, features, b.plan.src
    ),
}


def forward_row(merge: Merge) -> Row:
    return lambda b: merge(b, b.weight, b.features, b.ids)


def forward_backward_row(merge: Merge, *, weight_too: bool) -> Row:
    """Forward and backward for the features (returned is their gradient), or for the weight as well."""

    def run(batch: Batch) -> torch.Tensor:
        features_ND = batch.features.detach().requires_grad_()
        weight_VD = batch.weight.detach().requires_grad_(weight_too)
        merge(batch, weight_VD, features_ND, batch.ids).backward(batch.grad)
        assert features_ND.grad is not None
        return features_ND.grad

    return run


def clone_limit(batch: Batch) -> torch.Tensor:
    return batch.embeds.clone()


def forward_backward_limit(batch: Batch) -> torch.Tensor:
    """A copy of the forward's result, dropped, then one of the gradient rows that the features take."""
    clone_limit(batch)
    return _grad_rows(batch)[: batch.plan.num_slots].clone()


GROUPS: dict[str, dict[str, Row]] = {
    "forward-fused": {name: forward_row(merge) for name, merge in MERGES.items()} | {"copy_limit": clone_limit},
    "merge": {
        "triptych": lambda b: tk.merge(b.embeds, b.features, b.plan),
        "transformers_masked_scatter": lambda b: masked_scatter_rows(b, b.embeds, b.features),
        "index_copy": lambda b: index_copy_rows(b, b.embeds, b.features),
        "where_gather": lambda b: where_gather_rows(b.embeds, b.features, b.plan.src),
        "compiled_where_gather": lambda b: compiled_where_gather_rows(b.embeds, b.features, b.plan.src),
        "copy_limit": clone_limit,
    },
    "merge-in-place": {
        "triptych": lambda b: tk.merge(b.embeds, b.features, b.plan, out=b.embeds),
        "transformers_masked_scatter": lambda b: b.embeds.masked_scatter_(
            transformers_mask(b, b.embeds, repeated(b, b.features)), repeated(b, b.features)
        ),
        "index_copy": lambda b: index_copy_rows_(b, b.embeds, b.features),
        "where_gather": lambda b: b.embeds.copy_(where_gather_rows(b.embeds, b.features, b.plan.src)),
        "copy_limit": lambda b: b.scratch[: b.plan.num_slots].copy_(_grad_rows(b)[: b.plan.num_slots]),
    },
    "feature-backward": {
        "triptych": lambda b: features_grad(b.grad, b.plan.index, b.plan.num_features),
        "transformers_masked_scatter": lambda b: _per_feature(
            b, b.grad.masked_select(b.mask[..., None]).view(-1, b.case.hidden)
        ),
        "index_copy": lambda b: _per_feature(b, _grad_rows(b).index_select(0, b.slots)),
        "where_gather": lambda b: scatter_add(_grad_rows(b), b.slots, _feature_of_slot(b), b.plan.num_features),
        "compiled_where_gather": lambda b: compiled_scatter_add(
            _grad_rows(b), b.slots, _feature_of_slot(b), b.plan.num_features
        ),
        "copy_limit": lambda b: _grad_rows(b)[: b.plan.num_slots].clone(),
    },
    "forward+backward": {name: forward_backward_row(merge, weight_too=False) for name, merge in MERGES.items()}
    | {
        "copy_limit": forward_backward_limit,
    },
    "forward+backward-all": {name: forward_backward_row(merge, weight_too=True) for name, merge in MERGES.items()},
    "plan": {
        "triptych": lambda b: MergePlan.from_spans(
            tuple(b.ids.shape), b.runs, num_features=b.plan.num_features
        ).index.to(b.case.device),
        "transformers_masked_scatter": lambda b: transformers_mask(b, b.embeds, repeated(b, b.features)),
        "index_copy": lambda b: b.mask.flatten().nonzero().flatten(),
    },
}
"""Rows by group; the first row of each is ours."""

REFERENCES: dict[str, Row] = {
    "forward-fused": lambda b: tk.reference.embed_and_merge(b.weight, b.ids, b.features, b.plan),
    "merge": lambda b: tk.reference.merge(b.embeds, b.features, b.plan),
    "merge-in-place": lambda b: tk.reference.merge(b.embeds, b.features, b.plan),
    "feature-backward": lambda b: tk.reference.features_grad(b.grad, b.plan),
    "forward+backward": lambda b: tk.reference.features_grad(b.grad, b.plan),
    "forward+backward-all": lambda b: tk.reference.features_grad(b.grad, b.plan),
}


def moved_bytes(group: str, batch: Batch) -> int:
    """Bytes that the op must read and write at the least, index arrays left out."""
    rows, slots, features = batch.ids.numel(), batch.plan.num_slots, batch.plan.num_features
    forward, backward = 2 * rows - slots + features, slots + features
    moved_rows = {
        "forward-fused": forward,
        "merge": forward,
        "merge-in-place": backward,
        "feature-backward": backward,
        "forward+backward": forward + backward,
        "forward+backward-all": forward + backward + 2 * (rows - slots),
    }
    return moved_rows.get(group, 0) * batch.row_bytes
