"""The merge: image-feature rows take their places among the embedded rows of a batch."""

from typing import Any

import torch

from triptych_kernels import reference
from triptych_kernels.checks import check_inputs
from triptych_kernels.launch import dense_rows, has_kernels, launch, num_rows, row_bytes, row_stride_bytes
from triptych_kernels.ops.gradients import features_grad, plan_of, text_grad
from triptych_kernels.plan import MergePlan


def merge(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Return a new tensor `[B, T, D]`: feature rows at the plan's image positions, `embeds_BTD` at all others.

    Gradients flow to both inputs. The features' gradient is a float32 sum over the places of each feature row, in
    ascending order, and is rounded once. Raises TypeError for a dtype other than float32, bfloat16 and float16 or for
    two different dtypes, and ValueError where devices or shapes do not fit one another or the plan.
    """
    check_inputs(embeds_BTD, features_ND, plan)
    return _merge(embeds_BTD, features_ND, plan.index)


@torch.library.custom_op("triptych_kernels::merge", mutates_args=())
def _merge(embeds: torch.Tensor, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not has_kernels(embeds):
        return reference.merge(embeds, features, plan_of(index, embeds.shape[:-1], features.shape[0]))
    embeds, features = embeds.contiguous(), dense_rows(features)
    out = torch.empty_like(embeds)
    rows = (features.data_ptr(), row_stride_bytes(features), index.data_ptr(), num_rows(embeds))
    launch("merge", embeds, out.data_ptr(), embeds.data_ptr(), *rows, row_bytes(embeds))
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
