"""Merge of feature rows into embedded rows: out of place, into a kept buffer, or in place."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.launch import dense_rows, has_kernels, launch, num_rows, row_bytes, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of, text_grad
from triptych_kernels.ops.out_argument import RowsOp, run
from triptych_kernels.plan import MergePlan


def merge(
    embeds: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`features_ND[src]` where the plan has a feature, `embeds` elsewhere; embeds [T, D] or [B, T, D].

    `out=embeds` works in place and touches image positions only; another `out` is a buffer kept from call to call,
    without gradients. Raises TypeError or ValueError where tensors do not fit one another or the plan.
    """
    return run(_OP, embeds, features_ND, plan, rows_name="embeds", out=out)


@torch.library.custom_op("triptych_kernels::merge", mutates_args=())
def _merge(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not has_kernels(embeds):
        return reference.merge(embeds, features, plan_of(index, embeds.shape[:-1], features.shape[0]))
    out = torch.empty_like(embeds, memory_format=torch.contiguous_format)
    _run(out, embeds, features, index, kept=False)
    return out


@_merge.register_fake
def _(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(embeds, memory_format=torch.contiguous_format)


@torch.library.custom_op("triptych_kernels::merge_into", mutates_args=("out",))
def _merge_into(out: torch.Tensor, embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> None:
    if not has_kernels(embeds):
        out.copy_(reference.merge(embeds, features, plan_of(index, embeds.shape[:-1], features.shape[0])))
        return
    _run(out, embeds, features, index, kept=True)


@torch.library.custom_op("triptych_kernels::merge_in_place", mutates_args=("embeds",))
def _merge_in_place(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> None:
    if not has_kernels(embeds):
        embeds.copy_(reference.merge(embeds, features, plan_of(index, embeds.shape[:-1], features.shape[0])))
        return
    features = dense_rows(features)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), num_rows(embeds), features.shape[0])
    launch("merge_in_place", embeds, embeds.data_ptr(), *rows, row_bytes(embeds))


def _run(out: torch.Tensor, embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor, *, kept: bool) -> None:
    embeds, features = embeds.contiguous(), dense_rows(features)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), num_rows(embeds))
    launch("merge", embeds, out.data_ptr(), embeds.data_ptr(), *rows, row_bytes(embeds), kept)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    _, features, index = inputs
    ctx.save_for_backward(index)
    ctx.num_features = features.shape[0]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple:
    (index,) = ctx.saved_tensors
    embeds_grad = text_grad(grad, index) if ctx.needs_input_grad[0] else None
    feature_grad = features_grad(grad, index, ctx.num_features) if ctx.needs_input_grad[1] else None
    return embeds_grad, feature_grad, None


_merge.register_autograd(_backward, setup_context=_setup_context)

_OP = RowsOp(new=_merge, in_place=_merge_in_place, into=_merge_into, backward=_backward)
