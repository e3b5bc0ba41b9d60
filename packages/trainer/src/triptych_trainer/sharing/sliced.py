"""Log-probabilities of a group that does not fit into memory, for a loss that needs all of them at once.

Forward: the completions in slices, without graph. Backward: the gradient with respect to every log-probability is
known by then, so the loss of a slice is a dot product, and `two_phase_backward` runs prompt and slices again:

    d loss / d theta = sum_rows  (d loss / d logps_row) (d logps_row / d theta)

One more forward pass buys activations of one slice instead of all; gradients are those of the undivided batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from triptych_trainer.families import ImageFeatures
from triptych_trainer.sharing.batch import GroupBatch
from triptych_trainer.sharing.cache_pass import forward_branches, forward_prefix, two_phase_backward
from triptych_trainer.sharing.unwrap import unwrap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    model: torch.nn.Module
    batch: GroupBatch
    temperature: float
    features: ImageFeatures | None
    rows_per_slice: int
    autocast: Callable[[], AbstractContextManager[Any]]


def sliced_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    rows_per_slice: int,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `cached_logps`, holding the activations of `rows_per_slice` completions at a time.

    The backward pass adds to the parameters' gradients directly, as reentrant checkpointing does, so nothing averages
    them over ranks: for one process, on the unwrapped model.
    """
    call = _Call(
        model=unwrap(model),
        batch=batch,
        temperature=temperature,
        features=features,
        rows_per_slice=rows_per_slice,
        autocast=autocast,
    )
    if not torch.is_grad_enabled():
        return _forward(call)
    anchor = torch.zeros((), requires_grad=True)  # ties the result to the graph; its own gradient is nothing
    logps, entropies = _Sliced.apply(anchor, call)
    return logps, entropies


def _forward(call: _Call) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        prefix = forward_prefix(call.model, call.batch, features=call.features)
        parts = [
            forward_branches(call.model, call.batch, prefix, prefix.states, rows=rows, temperature=call.temperature)
            for rows in torch.arange(call.batch.num_completions).split(call.rows_per_slice)
        ]
    return torch.cat([logps for logps, _ in parts]), torch.cat([entropies for _, entropies in parts])


class _Sliced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, call: _Call) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.call = call
        return _forward(call)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        grad_logps_BC, grad_entropies_BC = grads
        call: _Call = ctx.call

        def share(rows: torch.Tensor, logps: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
            rows = rows.to(logps.device)
            return (logps * grad_logps_BC[rows]).sum() + (entropies * grad_entropies_BC[rows]).sum()

        with torch.enable_grad(), call.autocast():
            two_phase_backward(
                call.model,
                call.batch,
                loss_of=share,
                rows_per_slice=call.rows_per_slice,
                temperature=call.temperature,
                features=call.features,
            )
        return torch.zeros(()), None
