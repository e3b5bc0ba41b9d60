"""From tensors to raw addresses: the only place that calls the compiled kernels."""

import warnings
from typing import Any

import torch

from triptych_kernels import _native
from triptych_kernels.availability import unavailable_reason


def has_kernels(tensor: torch.Tensor) -> bool:
    """Whether the kernels can run on the device of `tensor`; warns where it is a CUDA device and they cannot."""
    if tensor.device.type == "cpu":
        return True
    if tensor.device.type != "cuda":
        return False
    reason = unavailable_reason()
    if reason is not None:
        warnings.warn(f"{reason}; using the torch reference on {tensor.device}", stacklevel=2)
    return reason is None


def launch(op: str, tensor: torch.Tensor, *args: Any) -> Any:
    """Run the compiled `op` on the device, and for CUDA on the current stream, of `tensor`.

    The caller keeps every tensor behind `args` alive until this returns.
    """
    if tensor.device.type == "cpu":
        return getattr(_native.cpu, op)(*args, torch.get_num_threads())
    with torch.cuda.device(tensor.device):
        stream = torch.cuda.current_stream(tensor.device).cuda_stream
        return getattr(_native.cuda, op)(*args, stream)


def dense_rows(rows: torch.Tensor) -> torch.Tensor:
    """`rows` [N, D] itself where each row is contiguous, else a contiguous copy."""
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()


def row_stride_bytes(rows: torch.Tensor) -> int:
    return rows.stride(0) * rows.element_size()


def row_bytes(rows: torch.Tensor) -> int:
    return rows.shape[-1] * rows.element_size()
