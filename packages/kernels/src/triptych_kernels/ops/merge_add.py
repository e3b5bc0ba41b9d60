"""Addition of feature rows to hidden rows, for the vision features that deeper layers take (deepstack)."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.checks import DTYPES, check_inputs
from triptych_kernels.launch import dense_rows, has_kernels, launch, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of
from triptych_kernels.plan import MergePlan


def merge_add(hidden: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """`hidden + features_ND[src]` where the plan has a feature, `hidden` elsewhere; hidden [T, D] or [B, T, D]."""
    check_inputs(
        plan,
        rows_name="hidden",
        rows=hidden,
        features_ND=features_ND,
        batch_name="hidden",
        batch_shape=hidden.shape[:-1],
    )
    return _merge_add(hidden, features_ND, plan.index)


@torch.library.custom_op("triptych_kernels::merge_add", mutates_args=())
def _merge_add(hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not has_kernels(hidden):
        return reference.merge_add(hidden, features, plan_of(index, hidden.shape[:-1], features.shape[0]))
    hidden, features = hidden.contiguous(), dense_rows(features)
    out = torch.empty_like(hidden)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), hidden.shape[:-1].numel())
    launch("merge_add", hidden, out.data_ptr(), hidden.data_ptr(), *rows, hidden.shape[-1], DTYPES[hidden.dtype])
    return out


@_merge_add.register_fake
def _(hidden: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    _, features, index = inputs
    ctx.save_for_backward(index)
    ctx.num_features = features.shape[0]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple:
    (index,) = ctx.saved_tensors
    feature_grad = features_grad(grad, index, ctx.num_features) if ctx.needs_input_grad[1] else None
    return grad if ctx.needs_input_grad[0] else None, feature_grad, None


_merge_add.register_autograd(_backward, setup_context=_setup_context)
