"""Whether a model's weights are those with which something was computed that is kept, such as the graph of its prompts.

A change in place is known by a tensor's version. A change through `.data` has none; it is known by another memory, or
by 64 numbers of each tensor that are read then and now. So a change through `.data` of other numbers alone is not seen.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

__all__ = ["WeightsSeen"]

_NUM_READ = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsSeen:
    """Contains what is remembered of the weights of a model."""

    states: dict[str, tuple[int, int]]
    """Version and address of each tensor."""
    values: dict[str, torch.Tensor]
    """Numbers that are evenly spread over each tensor."""

    @classmethod
    def of(cls, model: torch.nn.Module) -> WeightsSeen:
        """Remember the weights of a model as they are now."""
        weights = dict(model.named_parameters())
        return cls(
            states={name: (weight._version, weight.data_ptr()) for name, weight in weights.items()},
            values={name: _read(weight) for name, weight in weights.items()},
        )

    def says_changed(self, model: torch.nn.Module) -> bool:
        """Return whether a weight has changed since, and warn of it."""
        name = self.changed(model)
        if name is not None:
            warnings.warn(
                f"the weights of {type(model).__name__} ({name}) were changed between sampling and the policy pass, as "
                "a reward function or a callback can do; the pass forwards images and prompts again, with the weights "
                "as they are now, and counts the completions as sampled with these. Change weights at the end of a "
                "step",
                stacklevel=2,
            )
        return name is not None

    def changed(self, model: torch.nn.Module) -> str | None:
        """Return the name of a weight that has changed since, or None."""
        for name, weight in model.named_parameters():
            if self.states.get(name) != (weight._version, weight.data_ptr()):
                return name
            if not torch.equal(self.values[name], _read(weight)):
                return name
        return None


def _read(weight: torch.Tensor) -> torch.Tensor:
    """Their bytes, so that values which are no numbers are equal to themselves."""
    values = weight.detach().reshape(-1)
    return values[:: max(1, values.numel() // _NUM_READ)].clone().view(torch.uint8)
