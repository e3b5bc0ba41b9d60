"""Whether an optimizer's update changes weights at all, or is lost where they are rounded: a sample of one step."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Update", "WeightSample"]

VALUES = 16
"""Looked at in each parameter, in even distances."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Counts the weights that had a gradient in a step, and those of them that the step changed."""

    num_weights: int
    num_changed: int
    dtype: str
    """Of most of these weights."""
    learning_rate: float


class WeightSample:
    """Keeps some weights that have a gradient until the step is done; sharded parameters are looked at in part."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Take the values before the optimizer changes them; parameters without a gradient are left out.

        So are vectors next to matrices: a bias that begins at 0 takes an update of any size.
        """
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        for parameter in matrices or trained:
            assert parameter.grad is not None
            weights, gradient = _local(parameter), _local(parameter.grad)
            if weights.shape != gradient.shape or not weights.numel():
                continue
            places = torch.linspace(0, weights.numel() - 1, min(VALUES, weights.numel())).long().to(weights.device)
            places = places[gradient.reshape(-1)[places] != 0]
            self._kept.append((weights, places, weights.reshape(-1)[places].clone()))

    def update(self, *, learning_rate: float) -> Update:
        """Return what has changed since."""
        changed = sum(int((weights.reshape(-1)[places] != values).sum()) for weights, places, values in self._kept)
        by_dtype: dict[str, int] = {}
        for _, places, values in self._kept:
            dtype = str(values.dtype).removeprefix("torch.")
            by_dtype[dtype] = by_dtype.get(dtype, 0) + len(places)
        return Update(
            num_weights=sum(by_dtype.values()),
            num_changed=changed,
            dtype=max(by_dtype, key=lambda dtype: by_dtype[dtype], default=""),
            learning_rate=learning_rate,
        )


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process has."""
    to_local: Any = getattr(tensor, "to_local", None)
    return (tensor if to_local is None else to_local()).detach()
