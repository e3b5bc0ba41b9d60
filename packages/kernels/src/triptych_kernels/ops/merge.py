"""Merge of feature rows into embedded rows, out of place, into a kept buffer, or in place."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.checks import check_inputs
from triptych_kernels.launch import dense_rows, has_kernels, launch, row_bytes, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of, text_grad
from triptych_kernels.plan import MergePlan


def merge(
    embeds: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`features_ND[src]` where the plan has a feature, `embeds` elsewhere; embeds [T, D] or [B, T, D]."""
    check_inputs(
        plan,
        rows_name="embeds",
        rows=embeds,
        features_ND=features_ND,
        batch_name="embeds",
        batch_shape=embeds.shape[:-1],
    )
    if out is not None:
        raise NotImplementedError("out= is not there yet")
    return _merge(embeds, features_ND, plan.index)


@torch.library.custom_op("triptych_kernels::merge", mutates_args=())
def _merge(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not has_kernels(embeds):
        return reference.merge(embeds, features, plan_of(index, embeds.shape[:-1], features.shape[0]))
    embeds, features = embeds.contiguous(), dense_rows(features)
    out = torch.empty_like(embeds)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), embeds.shape[:-1].numel())
    launch("merge", embeds, out.data_ptr(), embeds.data_ptr(), *rows, row_bytes(embeds), False)
    return out


@_merge.register_fake
def _(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(embeds, memory_format=torch.contiguous_format)


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
