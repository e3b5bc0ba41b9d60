"""Embedding lookup and merge in one pass: placeholder rows of the table are never read."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.checks import check_inputs
from triptych_kernels.launch import dense_rows, has_kernels, launch, row_bytes, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of
from triptych_kernels.plan import MergePlan

_NO_PADDING = -1


def embed_and_merge(
    weight_VD: torch.Tensor,
    ids: torch.Tensor,
    features_ND: torch.Tensor,
    plan: MergePlan,
    *,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """`features_ND[src]` where the plan has a feature, `weight_VD[ids]` elsewhere.

    ids [T] or [B, T], integers of the plan's shape, -> [T, D] or [B, T, D]. Ids at image positions are never
    read, and a placeholder id that stands elsewhere (sampled in a completion) is looked up like any other. Rows of
    `padding_idx` get no gradient. Raises IndexError for a text id outside the table on CPU; on CUDA, which does not
    wait to look, such a row is NaN.
    """
    check_inputs(
        plan,
        rows_name="weight",
        rows=weight_VD,
        features_ND=features_ND,
        batch_name="ids",
        batch_shape=ids.shape,
    )
    if weight_VD.dim() != 2:
        raise ValueError(f"weight must be [V, {features_ND.shape[1]}], got {list(weight_VD.shape)}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids are {ids.dtype}, expected int64 or int32")
    if ids.device != weight_VD.device:
        raise ValueError(f"weight is on {weight_VD.device}, ids are on {ids.device}; move one to the other")
    if padding_idx is not None and not -weight_VD.shape[0] <= padding_idx < weight_VD.shape[0]:
        raise ValueError(f"padding_idx is {padding_idx}, but the weight has {weight_VD.shape[0]} rows")
    padding = _NO_PADDING if padding_idx is None else padding_idx % weight_VD.shape[0]
    return _embed_and_merge(weight_VD, ids, features_ND, plan.index, padding)


@torch.library.custom_op("triptych_kernels::embed_and_merge", mutates_args=())
def _embed_and_merge(
    weight: torch.Tensor, ids: torch.Tensor, features: torch.Tensor, index: torch.Tensor, padding_idx: int
) -> torch.Tensor:
    if not has_kernels(weight):
        return reference.embed_and_merge(weight, ids, features, plan_of(index, ids.shape, features.shape[0]))
    weight, features, ids = dense_rows(weight), dense_rows(features), ids.contiguous().long()
    out = weight.new_empty(*ids.shape, weight.shape[1])
    table = (weight.data_ptr(), row_stride_bytes(weight), weight.shape[0], ids.data_ptr())
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), ids.numel(), row_bytes(weight))
    bad = launch("embed_and_merge", weight, out.data_ptr(), *table, *rows)
    if bad >= 0:
        where = f"position {bad}" if ids.dim() == 1 else f"row {bad // ids.shape[-1]}, position {bad % ids.shape[-1]}"
        raise IndexError(
            f"the text id at {where} is {int(ids.flatten()[bad])}, but the weight has {weight.shape[0]} rows; "
            "a placeholder id there means that its image is missing from the plan"
        )
    return out


@_embed_and_merge.register_fake
def _(
    weight: torch.Tensor, ids: torch.Tensor, features: torch.Tensor, index: torch.Tensor, padding_idx: int
) -> torch.Tensor:
    return weight.new_empty(*ids.shape, weight.shape[1])


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    weight, ids, features, index, padding_idx = inputs
    ctx.save_for_backward(ids, index)
    ctx.num_embeddings, ctx.num_features, ctx.padding_idx = weight.shape[0], features.shape[0], padding_idx


def _backward(ctx: Any, grad: torch.Tensor) -> tuple:
    ids, index = ctx.saved_tensors
    weight_grad = feature_grad = None
    if ctx.needs_input_grad[0]:
        # Image positions and padding take id -1, which torch's own kernel then skips as its padding_idx.
        skipped = (index[: ids.numel()].view(ids.shape) >= 0) | (ids == ctx.padding_idx)
        text_ids = ids.masked_fill(skipped, -1)
        weight_grad = torch.ops.aten.embedding_dense_backward(grad, text_ids, ctx.num_embeddings, -1, False)
    if ctx.needs_input_grad[2]:
        feature_grad = features_grad(grad, index, ctx.num_features)
    return weight_grad, None, feature_grad, None, None


_embed_and_merge.register_autograd(_backward, setup_context=_setup_context)
