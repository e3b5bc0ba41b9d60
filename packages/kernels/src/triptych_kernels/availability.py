"""Whether the compiled CUDA kernels can run, and if not, why."""

import torch

from triptych_kernels import _native


def unavailable_reason() -> str | None:
    """Why the CUDA kernels cannot run here, in one sentence; None where they can. The CPU kernels always can."""
    reason = getattr(_native, "no_cuda_reason", None)
    if reason is not None:
        return f"triptych-kernels was built without CUDA: {reason}"
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device on this machine"
    return None
