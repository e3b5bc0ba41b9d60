"""Addition of feature rows to hidden rows, for the vision features that deeper layers take (deepstack)."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.checks import DTYPES
from triptych_kernels.launch import dense_rows, has_kernels, launch, num_rows, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of
from triptych_kernels.ops.out_argument import RowsOp, run
from triptych_kernels.plan import MergePlan


def merge_add(
    hidden: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`hidden + features_ND[src]` where the plan has a feature, `hidden` elsewhere; hidden [T, D] or [B, T, D].

    Sums are made in float32 and rounded once. `out=hidden` works in place and touches image positions only; another
    `out` is a buffer kept from call to call, without gradients. Raises TypeError or ValueError as `merge` does.
    """
    return run(_OP, hidden, features_ND, plan, rows_name="hidden", out=out)


@torch.library.custom_op("triptych_kernels::merge_add", mutates_args=())
def _merge_add(hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not has_kernels(hidden):
        return reference.merge_add(hidden, features, plan_of(index, hidden.shape[:-1], features.shape[0]))
    out = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    _run(out, hidden, features, index)
    return out


@_merge_add.register_fake
def _(hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


@torch.library.custom_op("triptych_kernels::merge_add_into", mutates_args=("out",))
def _merge_add_into(out: torch.Tensor, hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> None:
    if not has_kernels(hidden):
        out.copy_(reference.merge_add(hidden, features, plan_of(index, hidden.shape[:-1], features.shape[0])))
        return
    _run(out, hidden, features, index)


@torch.library.custom_op("triptych_kernels::merge_add_in_place", mutates_args=("hidden",))
def _merge_add_in_place(hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> None:
    if not has_kernels(hidden):
        hidden.copy_(reference.merge_add(hidden, features, plan_of(index, hidden.shape[:-1], features.shape[0])))
        return
    features = dense_rows(features)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), num_rows(hidden), features.shape[0])
    launch("merge_add_in_place", hidden, hidden.data_ptr(), *rows, hidden.shape[-1], DTYPES[hidden.dtype])


def _run(out: torch.Tensor, hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> None:
    hidden, features = hidden.contiguous(), dense_rows(features)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), num_rows(hidden))
    launch("merge_add", hidden, out.data_ptr(), hidden.data_ptr(), *rows, hidden.shape[-1], DTYPES[hidden.dtype])


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    _, features, index = inputs
    ctx.save_for_backward(index)
    ctx.num_features = features.shape[0]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple:
    (index,) = ctx.saved_tensors
    feature_grad = features_grad(grad, index, ctx.num_features) if ctx.needs_input_grad[1] else None
    return grad if ctx.needs_input_grad[0] else None, feature_grad, None


_merge_add.register_autograd(_backward, setup_context=_setup_context)

_OP = RowsOp(new=_merge_add, in_place=_merge_add_in_place, into=_merge_add_into, backward=_backward)
