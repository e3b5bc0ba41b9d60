"""The norms of a model while tokens are sampled on a CPU, where a row's operations take less time than their calls.

A norm of root mean squares is then one call of a kernel instead of eight of torch's. A module is known by what it
computes: its own forward is called with a few rows of numbers, and it is left alone if the kernel gives anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from triptych_kernels import row_norm

__all__ = ["row_norms"]

_FEW_ROWS = 256
"""With more rows, torch's own operations take longer than their calls, and they use all threads."""


def row_norms(modules: Iterable[torch.nn.Module]) -> dict[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    """Find the norms that the kernel computes, and the forward of each."""
    found = {}
    for module in modules:
        weight_D, epsilon = _parts(module)
        if weight_D is not None and _computes_the_same(module, weight_D, epsilon):
            found[module] = _forward(module, weight_D, epsilon)
    return found


def _parts(module: torch.nn.Module) -> tuple[torch.Tensor | None, float]:
    """The weight and the number below the root, or no weight for what is not called a norm."""
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    named = "RMSNorm" in type(module).__name__ and "forward" not in module.__dict__
    parameters = dict(module.named_parameters()) if named else {}
    weight_D = parameters.get("weight")
    if weight_D is None or len(parameters) != 1 or not isinstance(epsilon, float):
        return None, 0.0
    return (weight_D.detach() if _is_float32(weight_D) and weight_D.dim() == 1 else None), epsilon


def _computes_the_same(module: torch.nn.Module, weight_D: torch.Tensor, epsilon: float) -> bool:
    """Whether a module's own forward gives what the kernel gives, for usual, large and very small numbers."""
    width = len(weight_D)
    rows = torch.sin(torch.arange(3 * width, dtype=torch.float32) * 0.7 + 0.3).view(3, width)
    rows = rows * torch.tensor([[1.0], [30.0], [1e-3]])
    with torch.no_grad():
        expected = type(module).forward(module, rows)
    difference = (row_norm(rows, weight_D, epsilon=epsilon) - expected).abs()
    return bool((difference <= 1e-5 * expected.abs().amax(-1, keepdim=True)).all())


def _forward(module: torch.nn.Module, weight_D: torch.Tensor, epsilon: float) -> Callable[[torch.Tensor], torch.Tensor]:
    own = type(module).forward

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        rows = hidden_states.shape[:-1].numel()
        if torch.is_grad_enabled() or not _is_float32(hidden_states) or not 0 < rows <= _FEW_ROWS:
            return own(module, hidden_states)  # type: ignore[no-any-return]
        return row_norm(hidden_states, weight_D, epsilon=epsilon)

    return forward


def _is_float32(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"
