"""Convolutions whose input is one patch each, as one matrix product: the same numbers, several times as fast.

    rows_ND = patches_N(CP) @ weight_D(CP).T + bias_D

Towers of the Qwen family embed a patch by a convolution whose kernel covers it whole. For N patches torch runs N tiny
convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

__all__ = ["CONVOLUTIONS", "patches_as_products"]

CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.Conv3d)


@contextmanager
def patches_as_products(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Let convolutions among the modules multiply, while this is open, if their input is as large as their kernel."""
    changed = [module for module in modules if type(module) in CONVOLUTIONS and _is_plain(module)]
    for module in changed:
        module.forward = partial(_multiplied, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _is_plain(module: torch.nn.Module) -> bool:
    """Whether a convolution has one group and no padding, and nobody else has replaced its forward."""
    assert isinstance(module, CONVOLUTIONS)
    padded = isinstance(module.padding, str) or any(module.padding)
    return not padded and module.groups == 1 and "forward" not in vars(module)


def _multiplied(module: torch.nn.Conv2d | torch.nn.Conv3d, pixels: torch.Tensor) -> torch.Tensor:
    """The output of a convolution, by one matrix product if each input is one patch."""
    kernel = tuple(module.kernel_size)
    if pixels.shape[2:] != kernel or pixels.ndim != len(kernel) + 2:
        return type(module).forward(module, pixels)
    rows = torch.nn.functional.linear(pixels.flatten(1), module.weight.flatten(1), module.bias)
    return rows.view(*rows.shape, *(1 for _ in kernel))
