"""Matrices in blocks while tokens are sampled on a CPU, where few rows read every weight.

`F.linear` with a few rows calls a product that is made for many: with 8 rows it takes two to three times as long as
reading the weight once. So the plain linear layers of a model get a copy of their weight in blocks for the time of one
generation (`triptych_kernels.PackedMatrix`), and their `forward` multiplies with it. Norms are one call
each meanwhile (`row_norms`). Sums are rounded in another order,
as in any other kernel (float32, about 1e-6 of a value). The copies are freed at the end, because the next step moves
weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import GenerationConfig
from triptych_kernels import PackedMatrix

from triptych_trainer.forward.row_norms import row_norms
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.torch_names import FakeTensor

__all__ = ["empty_copies", "packable", "packed_weights"]

MIN_TOKENS = 16
"""Making the copies takes as long as they save in about 10 tokens."""
_MIN_ELEMENTS = 1 << 15
"""Below, a product takes hardly longer than its call."""
_MEMORY_SHARE = 8
"""The copies take at most one part in so many of the machine's memory."""
_LIMIT = Path("/sys/fs/cgroup/memory.max")


@contextmanager
def packed_weights(model: torch.nn.Module, *, config: GenerationConfig) -> Iterator[None]:
    """Let a model's text backbone and head multiply with packed copies, where enough tokens are to be sampled."""
    linears = packable(model) if (config.max_new_tokens or 0) >= MIN_TOKENS else []
    copies = dict(zip(linears, PackedMatrix.of_all([linear.weight for linear in linears]), strict=True))
    forwards: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
        linear: _product(linear, packed) for linear, packed in copies.items()
    }
    if copies:
        forwards |= row_norms(_modules(model))
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


def empty_copies(model: torch.nn.Module, *, num_tokens: int) -> list[torch.Tensor]:
    """Make tensors of the size of all copies, which a forecast counts."""
    return [torch.empty_like(layer.weight) for layer in packable(model)] if num_tokens >= MIN_TOKENS else []


def packable(model: torch.nn.Module) -> list[torch.nn.Linear]:
    """Find the layers of a text backbone and its head that can be packed: float32 on a CPU, plain, small together.

    The answer depends on the model and the machine only, so that a run that is repeated computes the same bits.
    """
    if torch.is_autocast_enabled("cpu") or is_sharded(model):
        return []
    found = [module for module in _modules(model) if isinstance(module, torch.nn.Linear) and _is_plain(module)]
    num_bytes = sum(linear.weight.numel() * linear.weight.element_size() for linear in found)
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return found if num_bytes * ranks * _MEMORY_SHARE <= _machine_bytes() else []


def _modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules of a model's text backbone and its head."""
    base: Any = unwrap(model)
    family = family_of(base)
    parts = [family.language_model(family.vision_language_model(base)), base.get_output_embeddings()]
    return list(dict.fromkeys(module for part in parts if part is not None for module in part.modules()))


def _is_plain(module: torch.nn.Linear) -> bool:
    """Whether a layer is nothing but torch's own product with a whole matrix that nobody else computes."""
    weight = module.weight
    own = type(module) is torch.nn.Linear and "forward" not in module.__dict__
    whole = type(weight) in (torch.nn.Parameter, FakeTensor)  # a forecast's weights are of the second type
    dense = whole and weight.layout == torch.strided and weight.is_contiguous()
    return (
        own
        and dense
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= _MIN_ELEMENTS
    )


def _product(linear: torch.nn.Linear, packed: PackedMatrix) -> Callable[[torch.Tensor], torch.Tensor]:
    bias = None if linear.bias is None else linear.bias.detach()

    def forward(input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.float32 or not input.numel():
            return F.linear(input, linear.weight, linear.bias)
        return packed.product(input, bias)

    return forward


def _machine_bytes() -> int:
    """The machine's memory, or what its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else ""
    return min(whole, int(limit)) if limit.isdecimal() else whole
