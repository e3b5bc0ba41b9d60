"""Backward kernels as ops of their own, so that a compiler can trace them."""

import torch

from triptych_kernels import reference
from triptych_kernels.checks import DTYPES
from triptych_kernels.launch import has_kernels, launch, num_rows, row_bytes
from triptych_kernels.plan import MergePlan


def plan_of(index: torch.Tensor, shape: torch.Size, num_features: int) -> MergePlan:
    """Rebuild the plan from its index, the one tensor of a plan that an op takes."""
    num_slots = index.numel() - shape.numel() - num_features - 1
    return MergePlan(shape=(shape[0], shape[1]), num_features=num_features, num_slots=num_slots, index=index)


@torch.library.custom_op("triptych_kernels::features_grad", mutates_args=())
def features_grad(grad: torch.Tensor, index: torch.Tensor, num_features: int) -> torch.Tensor:
    """Sum `grad` [B, T, D] over the positions of each feature row -> [N, D]: in float32, ascending, rounded once."""
    if not has_kernels(grad):
        return reference.features_grad(grad, plan_of(index, grad.shape[:-1], num_features))
    grad = grad.contiguous()
    out_ND = grad.new_empty(num_features, grad.shape[-1])
    args = (index.data_ptr(), num_rows(grad), num_features, grad.shape[-1], DTYPES[grad.dtype])
    launch("features_grad", grad, out_ND.data_ptr(), grad.data_ptr(), *args)
    return out_ND


@features_grad.register_fake
def _(grad: torch.Tensor, index: torch.Tensor, num_features: int) -> torch.Tensor:
    return grad.new_empty(num_features, grad.shape[-1])


@torch.library.custom_op("triptych_kernels::text_grad", mutates_args=())
def text_grad(grad: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return `grad` [B, T, D] with zeros at image positions."""
    if not has_kernels(grad):
        mask = index[: num_rows(grad)].view(grad.shape[:-1]) >= 0
        return grad.masked_fill(mask[..., None], 0)
    grad = grad.contiguous()
    out = torch.empty_like(grad)
    launch("text_grad", grad, out.data_ptr(), grad.data_ptr(), index.data_ptr(), num_rows(grad), row_bytes(grad))
    return out


@text_grad.register_fake
def _(grad: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(grad, memory_format=torch.contiguous_format)
