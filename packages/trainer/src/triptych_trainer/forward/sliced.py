"""Log-probabilities of a group that does not fit into memory, for a loss that needs all of them at once.

Forward: the completions in slices, without graph. Backward: the gradient with respect to every log-probability is
known by then, so the loss of a slice is a dot product, and `two_phase_backward` runs prompt and slices again:

    d loss / d theta = sum_rows  (d loss / d logps_row) (d logps_row / d theta)

One more forward pass buys activations of one slice instead of all; gradients are those of the undivided batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.cache_pass import forward_branches, forward_prefix, two_phase_backward
from triptych_trainer.models.families import ImageFeatures
from triptych_trainer.models.unwrap import unwrap


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
    """Score as `cached_logps` does, but keep the activations of only `rows_per_slice` completions at a time.

    To whatever wraps the model this is one call whose graph is one node over all trainable parameters: DDP and ZeRO-2
    see every gradient once. The weights have to be whole: FSDP and ZeRO-3 gather them inside calls of the model only.
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
    trainable = [parameter for parameter in call.model.parameters() if parameter.requires_grad]
    return _inside_call(model, lambda: _Sliced.apply(call, *trainable))


def _inside_call(model: torch.nn.Module, function: Callable[[], Any]) -> Any:
    """Call the wrapper `model` with `function` in place of its model, so that DDP and DeepSpeed do their part."""
    inner = getattr(model, "module", None)
    if not isinstance(inner, torch.nn.Module):
        return function()
    replaced = inner.__dict__.get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        put_back()
        return function()

    def put_back() -> None:
        if replaced is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.__dict__["forward"] = replaced

    inner.__dict__["forward"] = forward
    try:
        return model()
    finally:
        put_back()


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
    def forward(ctx: Any, call: _Call, *trainable: torch.nn.Parameter) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.call, ctx.trainable = call, trainable
        return _forward(call)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_logps_BC, grad_entropies_BC = grads
        call: _Call = ctx.call

        def share(rows: torch.Tensor, logps: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
            rows = rows.to(logps.device)
            return (logps * grad_logps_BC[rows]).sum() + (entropies * grad_entropies_BC[rows]).sum()

        with _own_gradients(call.model, ctx.trainable) as aliases, torch.enable_grad(), call.autocast():
            two_phase_backward(
                call.model,
                call.batch,
                loss_of=share,
                rows_per_slice=call.rows_per_slice,
                temperature=call.temperature,
                features=call.features,
            )
        return None, *(alias.grad for alias in aliases)


@contextmanager
def _own_gradients(
    model: torch.nn.Module, trainable: tuple[torch.nn.Parameter, ...]
) -> Iterator[list[torch.nn.Parameter]]:
    """Put aliases of the parameters into the model, which share their memory but neither gradients nor hooks."""
    aliases = {id(parameter): torch.nn.Parameter(parameter.detach()) for parameter in trainable}
    places = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and id(parameter) in aliases
    ]
    try:
        for parameters, name, parameter in places:
            parameters[name] = aliases[id(parameter)]
        yield list(aliases.values())
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter
