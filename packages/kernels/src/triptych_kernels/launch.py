"""From tensors to raw addresses: the only place that calls the compiled kernels."""

import warnings
from functools import cache
from typing import Any

import torch

from triptych_kernels import _native
from triptych_kernels.availability import unavailable_reason


def has_kernels(tensor: torch.Tensor) -> bool:
    """Return whether the kernels run on the device of `tensor`; warn once where torch's own ops replace them."""
    return tensor.device.type == "cpu" or _device_has_kernels(tensor.device.type)


@cache
def _device_has_kernels(device_type: str) -> bool:
    reason = unavailable_reason() if device_type == "cuda" else f"triptych-kernels has no kernels for {device_type}"
    if reason is not None:
        warnings.warn(f"{reason}; the slower torch reference is used on {device_type}", stacklevel=3)
    return reason is None


def launch(op: str, tensor: torch.Tensor, *args: Any) -> None:
    """Run the compiled `op` on the device of `tensor`, for CUDA on that device's current stream.

    The caller keeps every tensor whose address is in `args` alive until this returns.
    """
    if tensor.device.type == "cpu":
        getattr(_native.cpu, op)(*args, torch.get_num_threads())
        return
    with torch.cuda.device(tensor.device):
        stream = torch.cuda.current_stream(tensor.device).cuda_stream
        getattr(_native.cuda, op)(*args, tensor.device.index, stream)


def dense_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return `rows` [N, D] itself where each row is contiguous, else a contiguous copy."""
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()


def row_stride_bytes(rows: torch.Tensor) -> int:
    """Return the bytes from one row of a tensor to the next."""
    return rows.stride(0) * rows.element_size()


def row_bytes(rows: torch.Tensor) -> int:
    """Return the bytes of one row of a tensor."""
    return rows.shape[-1] * rows.element_size()


def num_rows(rows: torch.Tensor) -> int:
    """Count the rows of `[..., D]`: B * T of `[B, T, D]`."""
    return rows.shape[:-1].numel()
