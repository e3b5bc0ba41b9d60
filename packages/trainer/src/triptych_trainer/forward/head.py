"""The head in slices of rows: log-probabilities and entropies of hidden states, with logits for one slice at a time.

The backward pass computes the logits of each slice again, except where the matrix is frozen and only log-probabilities
have a gradient: then the forward pass leaves each row's slope. A head that is one matrix, whose input and output the
model leaves as they are, is multiplied here; any other head (capped or scaled logits, an adapter on the head) is
computed by the model's own forward, given the hidden states of the slice in the place of its backbone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from transformers.utils import ModelOutput

from triptych_trainer.forward.scoring import grad_of_logits, logps_of_logits, part_of, slices_of
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import kept_logits

__all__ = ["head_logps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """How a model makes logits of hidden states."""

    base: torch.nn.Module
    module: torch.nn.Module
    """What makes logits: a matrix, or a matrix with an adapter."""
    output_type: type[ModelOutput]
    """What the backbone returns."""
    autocast: torch.dtype | None
    device: str
    is_matrix: bool
    """Whether the logits are nothing but the product with a matrix, and perhaps a bias."""

    @property
    def vocabulary(self) -> int:
        """Logits of a row."""
        return int(self.module.weight.shape[0])  # type: ignore[arg-type, union-attr]

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        """The parameters of the head that have gradients."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast under which the model was called."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device, dtype=self.autocast)

    def room(self, hidden_KD: torch.Tensor) -> torch.Tensor | None:
        """Memory for the logits of any slice, because new memory is pages that fault in; None if it cannot be used."""
        weight_VD: Any = self.module.weight
        plain = self.is_matrix and self.autocast is None and self.module.bias is None
        if not plain or hidden_KD.dtype != weight_VD.dtype:
            return None
        return hidden_KD.new_empty(len(hidden_KD[slices_of(len(hidden_KD), self.vocabulary)[0]]), self.vocabulary)

    def logits(self, hidden_KD: torch.Tensor, *, room: torch.Tensor | None = None) -> torch.Tensor:
        """`[K, V]`, as the model computes them."""
        if room is not None:
            weight_VD: Any = self.module.weight
            return torch.mm(hidden_KD, weight_VD.t(), out=room[: len(hidden_KD)])
        with self.precision():
            if self.is_matrix:
                return F.linear(hidden_KD, self.module.weight, self.module.bias)  # type: ignore[arg-type]
            return self.own_call(hidden_KD.unsqueeze(0)).logits[0]  # type: ignore[no-any-return]

    def own_call(self, hidden_BTD: torch.Tensor) -> Any:
        """The model's own forward, whose backbone returns these hidden states."""
        return _call_on(self.base, self.output_type(last_hidden_state=hidden_BTD))


def head_logps(
    model: torch.nn.Module,
    call: dict[str, Any],
    *,
    keep: torch.Tensor,
    labels_K: torch.Tensor,
    temperature: float,
    kept_KJ: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Call `model` and score `labels_K` at the positions that `keep` names; return None, before any call, if it cannot.

    Args:
        keep: positions `[K]` of the only row, or a mask `[B, S]`.
        kept_KJ: the tokens among which each label was drawn (see `kept`); None: among all.

    Returns:
        Float32 log-probabilities and entropies `[K]`, both differentiable.
    """
    base = unwrap(model)
    module = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    backbone = getattr(base, "base_model", base)
    first = torch.zeros(1, dtype=torch.long, device=keep.device)
    one = kept_logits(base, first)
    if module is None or backbone is base or not one or is_sharded(base) or not len(labels_K):
        return None
    seen: list[tuple[Any, torch.dtype | None]] = []
    device = keep.device.type

    def see(_: torch.nn.Module, args: Any, output: Any) -> None:
        seen.append((output, torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None))

    handle = backbone.register_forward_hook(see)
    try:
        model(**call, **one)
    finally:
        handle.remove()
    (output, autocast), hidden_BTD = seen[-1], seen[-1][0].last_hidden_state
    head = _Head(
        base=base,
        module=module,
        output_type=type(output),
        autocast=autocast,
        device=device,
        is_matrix=_is_matrix(base, module, type(output), like=hidden_BTD),
    )
    hidden_KD = hidden_BTD[keep] if keep.dtype == torch.bool else hidden_BTD[0, keep]
    return _HeadLogps.apply(head, temperature, labels_K, kept_KJ, hidden_KD, *head.trainable)


class _HeadLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        head: _Head,
        temperature: float,
        labels_K: torch.Tensor,
        kept_KJ: torch.Tensor | None,
        hidden_KD: torch.Tensor,
        *trainable: torch.nn.Parameter,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found, slopes, room = [], [], head.room(hidden_KD)
        wants_slopes = head.is_matrix and not trainable and ctx.needs_input_grad[4]
        for rows in slices_of(len(hidden_KD), head.vocabulary):
            logits_KV = head.logits(hidden_KD[rows], room=room)
            own: dict[str, Any] = {"temperature": temperature, "kept_KJ": part_of(kept_KJ, rows)}
            found.append(logps_of_logits(logits_KV, labels_K[rows], **own))
            if wants_slopes:
                slopes.append(_slopes(head, logits_KV, labels_K[rows], found[-1][2], **own))
            del logits_KV
        logps_K, entropies_K, norms_K = (torch.cat(parts) for parts in zip(*found, strict=True))
        slopes_KD = torch.cat(slopes) if slopes else None
        ctx.save_for_backward(labels_K, kept_KJ, hidden_KD, norms_K, entropies_K, slopes_KD)
        ctx.head, ctx.temperature, ctx.trainable = head, temperature, trainable
        ctx.set_materialize_grads(False)
        return logps_K, entropies_K

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        labels_K, kept_KJ, hidden_KD, norms_K, entropies_K, slopes_KD = ctx.saved_tensors
        head: _Head = ctx.head
        if slopes_KD is not None and grads[0] is not None and grads[1] is None:
            return None, None, None, None, (slopes_KD * grads[0][:, None]).to(hidden_KD.dtype)
        grad_KD, sums, room = torch.empty_like(hidden_KD), _Sums(ctx.trainable), head.room(hidden_KD)
        for rows in slices_of(len(hidden_KD), head.vocabulary):
            grad_of = partial(
                grad_of_logits,
                labels_K=labels_K[rows],
                norms_K=norms_K[rows],
                entropies_K=entropies_K[rows],
                grad_logps_K=part_of(grads[0], rows),
                grad_entropies_K=part_of(grads[1], rows),
                temperature=ctx.temperature,
                kept_KJ=part_of(kept_KJ, rows),
            )
            if head.is_matrix:
                grad_KD[rows] = _back_through_matrix(head, hidden_KD[rows], grad_of, sums, room=room)
            else:
                grad_KD[rows] = _back_through_own_call(head, hidden_KD[rows], grad_of, sums)
        return None, None, None, None, grad_KD, *sums.gradients()


class _Sums:
    """The gradients of a head's parameters, summed over slices in float32; none for a parameter that took no part."""

    def __init__(self, parameters: tuple[torch.nn.Parameter, ...]) -> None:
        self.parameters = parameters
        self.sums: list[torch.Tensor | None] = [None] * len(parameters)

    def add(self, number: int, gradient: torch.Tensor) -> None:
        """Add a slice's gradient of one parameter."""
        known = self.sums[number]
        self.sums[number] = gradient.float() if known is None else known.add_(gradient)

    def add_product(self, number: int, left_VK: torch.Tensor, right_KD: torch.Tensor) -> None:
        """Add the product of two matrices, without a copy of its size where the precision allows it."""
        known = self.sums[number]
        if known is not None and left_VK.dtype == known.dtype:
            known.addmm_(left_VK, right_KD)
        else:
            self.add(number, left_VK @ right_KD)

    def gradients(self) -> list[torch.Tensor | None]:
        """One for each parameter, in its own precision."""
        pairs = zip(self.sums, self.parameters, strict=True)
        return [None if grad is None else grad.to(parameter.dtype) for grad, parameter in pairs]


_GradOf = Callable[..., torch.Tensor]


def _slopes(
    head: _Head, logits_KV: torch.Tensor, labels_K: torch.Tensor, norms_K: torch.Tensor, **own: Any
) -> torch.Tensor:
    """How each row's log-probability changes with its hidden state, `[K, D]`."""
    ones_K = torch.ones_like(norms_K)
    slope_KV = grad_of_logits(logits_KV, labels_K, norms_K, ones_K, ones_K, None, **own)
    weight_VD: Any = head.module.weight
    return slope_KV.to(logits_KV.dtype) @ weight_VD.to(logits_KV.dtype)


def _back_through_matrix(
    head: _Head, hidden_KD: torch.Tensor, grad_of: _GradOf, sums: _Sums, *, room: torch.Tensor | None
) -> torch.Tensor:
    """The gradient of a slice of hidden states; what the head's own parameters get is added to `sums`."""
    weight_VD: Any = head.module.weight
    logits_KV = head.logits(hidden_KD, room=room)
    dtype = logits_KV.dtype
    grad_KV = grad_of(logits_KV, in_place=True).to(dtype)
    del logits_KV
    for number, parameter in enumerate(sums.parameters):
        if parameter is weight_VD:
            sums.add_product(number, grad_KV.t(), hidden_KD.to(dtype))
        else:
            sums.add(number, grad_KV.sum(0))
    return grad_KV @ weight_VD.to(dtype)


def _back_through_own_call(head: _Head, hidden_KD: torch.Tensor, grad_of: _GradOf, sums: _Sums) -> torch.Tensor:
    """The same, computed by autograd through the model's own code."""
    with torch.enable_grad():
        leaf_KD = hidden_KD.detach().requires_grad_()
        logits_KV = head.logits(leaf_KD)
    grad_KV = grad_of(logits_KV.detach()).to(logits_KV.dtype)
    found = torch.autograd.grad(logits_KV, [leaf_KD, *sums.parameters], grad_KV, allow_unused=True)
    for number, grad in enumerate(found[1:]):
        if grad is not None:
            sums.add(number, grad)
    assert found[0] is not None
    return found[0]


def _is_matrix(
    base: torch.nn.Module, module: torch.nn.Module, output_type: type[ModelOutput], *, like: torch.Tensor
) -> bool:
    """Whether the model hands hidden states to a plain matrix as they are, and returns the product as it is.

    One row goes through the model's own code, and the head returns a stand-in: both have to come out untouched.
    """
    plain = type(module) is torch.nn.Linear and "forward" not in module.__dict__
    if not plain or module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return False
    hidden_BTD = like.new_zeros(1, 1, like.shape[-1])
    logits_BTV = like.new_zeros(1, 1, 2, dtype=torch.float32)  # what makes float32 of it changes nothing
    inputs: list[torch.Tensor] = []

    def stand_in(hidden: torch.Tensor) -> torch.Tensor:
        inputs.append(hidden)
        return logits_BTV

    with torch.no_grad(), _replaced(module, stand_in):
        found = _call_on(base, output_type(last_hidden_state=hidden_BTD)).logits
    untouched = all(tensor._version == 0 for tensor in (hidden_BTD, logits_BTV))
    return untouched and found is logits_BTV and len(inputs) == 1 and _is_same(inputs[0], hidden_BTD)


def _is_same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    storages = {each.untyped_storage()._cdata for each in (tensor, other)}
    return len(storages) == 1 and tensor.shape == other.shape


def _call_on(base: torch.nn.Module, output: ModelOutput) -> Any:
    """`base.forward` with a backbone that returns `output`."""
    hidden_BTD: torch.Tensor = output.last_hidden_state  # type: ignore[attr-defined]
    ids_BT = torch.zeros(hidden_BTD.shape[:2], dtype=torch.long, device=hidden_BTD.device)
    routers = "output_router_logits" in inspect.signature(type(base).forward).parameters
    with _replaced(base.base_model, lambda *_, **__: output):
        return base.forward(input_ids=ids_BT, use_cache=False, **({"output_router_logits": False} if routers else {}))


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Give one module another forward for a while, without its hooks."""
    names = ("forward", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    before = {name: module.__dict__[name] for name in names if name in module.__dict__}
    module.__dict__.update({"forward": forward, **{name: {} for name in names[1:]}})
    try:
        yield
    finally:
        module.__dict__.pop("forward")
        module.__dict__.update(before)
