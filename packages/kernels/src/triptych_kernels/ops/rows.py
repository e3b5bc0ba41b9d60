"""The norm of a few rows on a CPU in one call, where torch needs eight."""

from __future__ import annotations

import torch

from triptych_kernels import _native

__all__ = ["row_norm"]


def row_norm(input: torch.Tensor, weight_D: torch.Tensor, *, epsilon: float) -> torch.Tensor:
    """Compute `weight * input / sqrt(mean(input ** 2) + epsilon)` over the last axis: `[..., D]` -> `[..., D]`.

    A row's results have the same bits for every number of rows. There are no gradients.

    Raises:
        ValueError: the weight does not fit the input, or one is not float32 on a CPU.
    """
    num = input.shape[-1]
    if weight_D.shape != (num,) or not _fits(input) or not _fits(weight_D):
        raise ValueError(
            f"expected an input [..., D] and a weight [D] in float32 on a CPU, got {_said(input)} and {_said(weight_D)}"
        )
    rows, weight = input.contiguous(), weight_D.contiguous()
    out = torch.empty_like(rows)
    if num:
        _native.cpu.row_norm(
            out.data_ptr(), rows.data_ptr(), weight.data_ptr(), rows.numel() // num, num, float(epsilon)
        )
    return out


def _fits(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _said(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} in {tensor.dtype} on {tensor.device}"
