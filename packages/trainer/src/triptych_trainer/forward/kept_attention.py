"""Gradient checkpointing that keeps what attention returned, so that only the rest of a layer is computed again.

Its output is as wide as a layer's input, which is kept anyway, and on a CPU it takes a third of a layer's time. The
kernels' backward pass needs the output and the norms of the scores, which are kept together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from triptych_trainer.forward.sharded import is_sharded

__all__ = ["checkpoint_keeping_attention", "keeping_attention"]

_KEPT = (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,)
"""Attention of torch on a CPU, by which `merged_attention` computes, too."""


@contextmanager
def keeping_attention(model: torch.nn.Module) -> Iterator[None]:
    """Let checkpointed layers keep what attention returns, on a CPU and with the weights whole.

    It changes only layers that use torch's own checkpointing, not reentrant and without a policy of what is kept.
    """
    found = [] if is_sharded(model) else [module for module in model.modules() if _can_keep(module)]
    before = [(module, module._gradient_checkpointing_func) for module in found]
    try:
        for module, function in before:
            module._gradient_checkpointing_func = partial(function, context_fn=_contexts)
        yield
    finally:
        for module, function in before:
            module._gradient_checkpointing_func = function


def checkpoint_keeping_attention(layer: torch.nn.Module) -> Callable[..., Any]:
    """Return the checkpointing function for a layer; on a CPU it keeps what attention returned."""
    function = partial(checkpoint, use_reentrant=False)
    return partial(function, context_fn=_contexts) if _on_cpu(layer) else function


def _contexts() -> tuple[Any, Any]:
    """The contexts of the forward pass and of computing it again."""
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def _can_keep(module: torch.nn.Module) -> bool:
    if not (module.training and getattr(module, "gradient_checkpointing", False)):
        return False
    function = getattr(module, "_gradient_checkpointing_func", None)
    if not isinstance(function, partial) or function.func is not checkpoint or "context_fn" in function.keywords:
        return False
    return function.keywords.get("use_reentrant") is False and _on_cpu(module)


def _on_cpu(module: torch.nn.Module) -> bool:
    """Whether a layer computes on a CPU without autocast, whose kept casts make the second forward another one."""
    if torch.is_autocast_enabled("cpu"):
        return False
    return all(parameter.device.type == "cpu" for parameter in module.parameters())
