"""The differences between the supported versions of torch that affect Triptych, and its ops without a stable name."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from triptych_trainer.errors import IncompatibleVersionError

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "TorchDispatchMode",
    "check_module_names",
    "flash_backward",
    "flash_forward",
    "load_to_numbered_cpus",
    "missing_arguments",
    "why_no_flash",
]

_FORWARD = (
    *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"),
    *("return_debug_mask", "scale", "window_size_left", "window_size_right"),
)
_BACKWARD = (
    *("grad_out", "query", "key", "value", "out", "logsumexp", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
    *("dropout_p", "is_causal", "rng_state", "unused", "scale", "window_size_left", "window_size_right"),
)
"""Arguments that `flash_forward` and `flash_backward` give; from torch 2.11 to 2.15 both ops begin with them."""


MODULE_NAMES = (
    *("_backward_hooks", "_buffers", "_compiled_call_impl", "_forward_hooks", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_parameters"),
)
"""What is read of a module, although torch does not promise it."""
OPS = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward")
"""Ops that are called by name; `missing_arguments` compares those for CUDA."""
OF_OTHERS = ("_cdata", "_flash_attention_backward", "_flash_attention_forward", "_last_lr", "_schema", "_version")
"""What is read of storages, tensors, ops and schedulers: tests that use it fail when it is gone."""


def check_module_names() -> None:
    """Check that modules and ops of the installed torch have the names that are used here.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    module, aten = torch.nn.Identity(), torch.ops.aten
    lost = [f"Module.{name}" for name in MODULE_NAMES if not hasattr(module, name)]
    lost += [f"ops.aten.{name}" for name in OPS if not hasattr(aten, name)]
    if lost:
        raise IncompatibleVersionError(
            f"torch {torch.__version__} is not the one that Triptych hooks into: {', '.join(lost)} is gone; install a "
            "version that triptych-trainer asks for"
        )


@functools.cache
def load_to_numbered_cpus() -> None:
    """Let `torch.load` put tensors on `cpu:0`: several ranks on CPUs ask for it, and torch 2.13 knows only `cpu`.

    Later versions know both; there the function that is added here is never asked.
    """
    torch.serialization.register_package(100, lambda _: None, _on_a_numbered_cpu)


def _on_a_numbered_cpu(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
    return storage if location.startswith("cpu:") else None


def flash_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts_q: torch.Tensor,
    starts_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    *,
    causal: bool,
    window: int | None,
    scale: float | None,
) -> Any:
    """Call torch's flash kernel for ragged lengths: output `[T, heads, d]`, log-sum-exp `[heads, T]`, and what is
    unused.
    """
    return torch.ops.aten._flash_attention_forward(
        *(query, key, value, starts_q, starts_k, longest_q, longest_k, 0.0, causal, False),
        scale=scale,
        **_reach(causal=causal, window=window),
    )


def flash_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    starts_q: torch.Tensor,
    starts_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    *,
    causal: bool,
    window: int | None,
    scale: float | None,
) -> Any:
    """Call the kernel's backward pass: the gradients of query, key and value. Nothing is dropped, so no random state is
    read.
    """
    unused = torch.empty(2, dtype=torch.uint64, device=query.device)
    return torch.ops.aten._flash_attention_backward(
        *(grad, query, key, value, out, lse, starts_q, starts_k, longest_q, longest_k, 0.0, causal, unused, unused),
        scale=scale,
        **_reach(causal=causal, window=window),
    )


def _reach(*, causal: bool, window: int | None) -> dict[str, int]:
    """How many keys before and after its own place a query sees; -1 is all."""
    return {"window_size_left": -1 if window is None else window - 1, "window_size_right": 0 if causal else -1}


def why_no_flash(device: torch.device) -> str | None:
    """Return why the two kernels cannot run on this CUDA device, as the end of a sentence, or None if they can."""
    if (missing := missing_arguments()) is not None:
        return missing
    if not torch.backends.cuda.is_flash_attention_available():
        return f"torch {torch.__version__} was built without flash attention"
    if not torch.backends.cuda.flash_sdp_enabled():
        return "flash attention is switched off (torch.backends.cuda.enable_flash_sdp)"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than Ampere, for which the flash kernels are written"
    return None


@functools.cache
def missing_arguments() -> str | None:
    """Return how the ops of the installed torch differ from those that are called here, or None if they do not."""
    for name, expected in (("_flash_attention_forward", _FORWARD), ("_flash_attention_backward", _BACKWARD)):
        op = getattr(torch.ops.aten, name, None)
        if op is None:
            return f"torch {torch.__version__} has no op {name}"
        arguments = op.default._schema.arguments
        found = tuple(argument.name for argument in arguments)
        further = [argument.name for argument in arguments[len(expected) :] if not argument.has_default_value()]
        if found[: len(expected)] != expected or further:
            return f"{name} of torch {torch.__version__} takes other arguments: {', '.join(found)}"
    return None
