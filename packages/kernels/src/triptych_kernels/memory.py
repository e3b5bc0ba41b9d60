"""Large tensors in huge pages, where processors read ahead further and look up fewer addresses."""

from __future__ import annotations

import torch

from triptych_kernels import _native

__all__ = ["in_huge_pages"]


def in_huge_pages(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Make a tensor on the CPU that is not written yet, in huge pages where the system gives them."""
    tensor = torch.empty(shape, dtype=dtype)
    _native.ask_for_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor
