"""Towers and backbones that were computed once are not computed again for the same inputs.

The stock forward and our plain pass call the same modules: each tower, and the text backbone. While the stock forward
runs, the inputs and outputs of these calls are kept. While our pass runs, a call whose inputs equal kept ones bit by
bit returns the kept output, because the same module would compute the same numbers again. All that is between these
calls is computed as always: embeddings, projectors, merge, positions, masks, head. A call with any other input is
computed, too. Ranks that share weights compute or reuse each call together.

Two inputs may differ. The stock forward often leaves the positions to the backbone, where ours gives 0, 1, 2, ...: then
a few tokens are forwarded both ways. And our towers embed patches by a product instead of a convolution: then the
product has to give the convolution's output.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import torch

from triptych_trainer.forward.patch_products import CONVOLUTIONS
from triptych_trainer.forward.shared_pass import PASS_KWARG
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.verification.ranks import of_ranks
from triptych_trainer.verification.swaps import same

__all__ = ["Replays", "replayable"]

Value = TypeVar("Value")

_SAY_NOTHING_IF_FALSE = {"use_cache", "output_router_logits"}
"""Keywords that stock forwards also hand to towers, which read neither."""
_NUM_TRIED = 8
"""Tokens that are forwarded with and without positions."""
_PATCH_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Mean difference of patch embeddings, as a part of their mean size, that is rounding; 2e-3 in half precision."""


@dataclass(kw_only=True, slots=True)
class _Call:
    module: torch.nn.Module
    inputs: Mapping[str, Any]
    output: Any = None
    versions: tuple[int, ...] = ()
    """Of the tensors among the outputs, which the stock forward may have written into."""
    patches: list[tuple[torch.nn.Module, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Each convolution of whole patches that the call ran, its input and its output."""


def replayable(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Find the text backbone and the towers of a model; none if a module was compiled, whose forward cannot be kept."""
    base = unwrap(model)
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in base.modules()):
        return []
    family = family_of(base)
    inner = family.vision_language_model(base)
    text = family.language_model(inner)
    towers = [child for child in inner.children() if _is_tower(child, text=text)] if family.takes_images else []
    return [text, *towers]


def _is_tower(module: torch.nn.Module, *, text: torch.nn.Module) -> bool:
    parts = list(module.modules())
    return text not in parts and any(isinstance(part, torch.nn.ModuleList) for part in parts)


class Replays:
    """Keeps the calls of a few modules from one forward for another."""

    def __init__(self, modules: Iterable[torch.nn.Module], *, in_step: bool = False) -> None:
        """Keep nothing yet; ``in_step`` says that a call of a module has to run on all ranks or on none."""
        self.modules = list(modules)
        self.in_step = in_step
        self.calls: list[_Call] = []
        self.taken = 0
        """Calls that were not computed again."""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep every call of the modules."""
        convolutions = {part for module in self.modules for part in module.modules() if type(part) in CONVOLUTIONS}
        open_calls: list[_Call] = []

        def keep(forward: Callable[..., Any], module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            call = _Call(module=module, inputs=_named(module, args, kwargs))
            open_calls.append(call)
            try:
                output = forward(*args, **kwargs)
            finally:
                open_calls.pop()
            call.output, call.versions = copy.copy(output), _versions(output)  # models put other things into outputs
            self.calls.append(call)
            return output

        def keep_patches(module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
            if args[0].shape[2:] == tuple(module.kernel_size):
                for call in open_calls:
                    call.patches.append((module, args[0], output))

        handles = [module.register_forward_hook(keep_patches) for module in convolutions]
        try:
            with _replaced(self.modules, keep):
                yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Answer calls from those that were kept, where their inputs are the same."""

        def replay(forward: Callable[..., Any], module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            call = self._kept(module, _named(module, args, kwargs), forward=forward)
            if call is None:
                return forward(*args, **kwargs)
            self.taken += 1
            return copy.copy(call.output)

        with _replaced(self.modules, replay):
            yield

    def _kept(self, module: torch.nn.Module, inputs: Mapping[str, Any], *, forward: Callable[..., Any]) -> _Call | None:
        """The kept call with these inputs; None if there is none, or none on another rank that runs in step."""
        found = ((call, _likeness(call, inputs)) for call in self.calls if call.module is module)
        call, likeness = next(((call, likeness) for call, likeness in found if likeness is not None), (None, None))
        patches = [] if call is None else call.patches
        ranks = self._of_ranks((likeness, len(patches)))
        if call is None or any(rank != ranks[0] for rank in ranks):
            return None
        equal = [_counts_itself(inputs, forward=forward)] if likeness == "positions" else []
        equal += [_embeds_alike(*patch) for patch in patches]  # all of them, because ranks may have to gather weights
        return call if all(self._of_ranks(all(equal))) else None

    def _of_ranks(self, value: Value) -> list[Value]:
        return of_ranks(value) if self.in_step else [value]


@contextmanager
def _replaced(modules: Iterable[torch.nn.Module], function: Callable[..., Any]) -> Iterator[None]:
    """Let ``function`` answer for each module's forward, which it gets as its first argument, the module as second."""
    before = [(module, vars(module).get("forward")) for module in modules]
    try:
        for module, _ in before:
            module.forward = partial(function, module.forward, module)
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own


def _named(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a call was given, by name, without what says nothing."""
    names = [name for name in inspect.signature(type(module).forward).parameters if name != "self"]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    says_nothing = {PASS_KWARG, *(name for name in _SAY_NOTHING_IF_FALSE if given.get(name) is False)}
    return {name: value for name, value in given.items() if value is not None and name not in says_nothing}


def _versions(output: Any) -> tuple[int, ...]:
    """How often each tensor of an output has been written into."""
    if isinstance(output, torch.Tensor):
        return (output._version,)
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    return tuple(version for part in parts for version in _versions(part))


def _likeness(call: _Call, inputs: Mapping[str, Any]) -> Literal["inputs", "positions"] | None:
    """Whether a call had these inputs, or all but the positions 0, 1, 2, ...; None if anything else differs."""
    if call.versions != _versions(call.output):
        return None
    differing = {name for name in {*call.inputs, *inputs} if not same(call.inputs.get(name), inputs.get(name))}
    if not differing:
        return "inputs"
    embeds = inputs.get("inputs_embeds")
    if embeds is None or differing != {"position_ids"} or "position_ids" in call.inputs:
        return None
    positions = inputs["position_ids"]
    counted = torch.arange(embeds.shape[1]).expand_as(positions).to(positions)
    return "positions" if torch.equal(positions, counted) else None


def _counts_itself(inputs: Mapping[str, Any], *, forward: Callable[..., Any]) -> bool:
    """Whether the module numbers a few tokens by itself as the positions given do, which are 0, 1, 2, ...."""
    positions, embeds = inputs["position_ids"], inputs["inputs_embeds"]
    few = {"inputs_embeds": embeds[:, :_NUM_TRIED], "use_cache": False}
    found = forward(**few), forward(**few, position_ids=positions[..., :_NUM_TRIED])
    return torch.equal(*(output.last_hidden_state for output in found))


def _embeds_alike(convolution: torch.nn.Module, pixels: torch.Tensor, embedded: torch.Tensor) -> bool:
    """Whether a convolution gives what it gave, by whatever it is computed now."""
    found = convolution(pixels)
    allowed = _PATCH_ROUNDING.get(found.dtype, 2e-3) * embedded.float().abs().mean()
    return bool((found.float() - embedded.float()).abs().mean() <= allowed)
