"""Adapters go to vLLM merged into copies of the weights that they are on, layer by layer.

TRL merges all adapters into the model, sends its weights, and subtracts the adapters again. In bfloat16 that does not
give the weights back: each time some of them move by a rounding step, so that the adapters that are saved in the end
belong to another model than the one that they were trained on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from accelerate.utils import is_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.models.unwrap import unwrap

__all__ = ["merged_in_copies"]

Named = Iterable[tuple[str, torch.Tensor]]


def merged_in_copies(named: Callable[[], Named], model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of ``named``, which merges the model's adapters and takes them out again, from an unchanged
    model.

    Weights that ranks share are merged by ``named`` itself.
    """
    if not is_peft_model(model) or is_sharded(unwrap(model)):
        yield from named()
        return
    copies = _Copies(model)
    model.merge_adapter = model.unmerge_adapter = lambda *_, **__: None  # type: ignore[assignment]
    try:
        for name, weight in named():
            yield name, copies.merged(weight)
    finally:
        del model.merge_adapter, model.unmerge_adapter


class _Copies:
    """The merged weights of one layer after the other; those of the last layer are kept, for its bias."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._adapters: dict[int, list[BaseTunerLayer]] = {}
        """By the memory of a weight: the adapters on its layer, the innermost first."""
        for module in reversed(list(model.modules())):
            if isinstance(module, BaseTunerLayer):
                for weight in module.get_base_layer().parameters(recurse=False):
                    self._adapters.setdefault(weight.data_ptr(), []).append(module)
        self._last: dict[int, torch.Tensor] = {}

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """A copy of a weight with its adapters in it, or the weight itself if it has none."""
        place = weight.data_ptr()
        if place not in self._adapters:
            return weight
        if place not in self._last:
            self._last = _merged(self._adapters[place])
        return self._last[place]


@torch.no_grad()
def _merged(adapters: Sequence[BaseTunerLayer]) -> dict[int, torch.Tensor]:
    """The weights of one layer with its adapters in them, by the memory of those without."""
    parameters = list(adapters[0].get_base_layer().parameters(recurse=False))
    own = [parameter.data for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.data = parameter.data.clone()
        for adapter in adapters:
            adapter.merge()
        found = {weight.data_ptr(): parameter.data.clone() for weight, parameter in zip(own, parameters, strict=True)}
        for adapter in reversed(adapters):
            adapter.unmerge()
    finally:
        for weight, parameter in zip(own, parameters, strict=True):
            parameter.data = weight
    return found
