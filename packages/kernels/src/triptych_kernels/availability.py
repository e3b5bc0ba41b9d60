"""Whether the compiled CUDA kernels can run, and if not, why."""

import torch

from triptych_kernels import _native


def unavailable_reason() -> str | None:
    """Say in one sentence why the CUDA kernels cannot run here, or return None where they can."""
    without_cuda = getattr(_native, "no_cuda_reason", None)
    if without_cuda is not None:
        return f"triptych-kernels has no CUDA kernels: {without_cuda}"
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device on this machine"
    problem = _native.cuda.device_problem()
    return f"the CUDA kernels cannot reach the device that torch sees: {problem}" if problem else None
