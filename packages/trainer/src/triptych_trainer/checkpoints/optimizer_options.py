"""The options of an optimizer in a resumed run: a checkpoint contains its own, but those of the run count."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["groups_of", "set_options"]

_NAMES = ("betas", "eps", "weight_decay", "momentum")
_RATE = "initial_lr"
"""The rate that a schedule scales, as torch calls it."""


def groups_of(optimizer: Any) -> list[dict[str, Any]]:
    """Return the options of each parameter group, as a run has set them before a checkpoint is read."""
    return [
        {_RATE: group.get(_RATE, group["lr"]), **{name: group[name] for name in _NAMES if name in group}}
        for group in optimizer.param_groups
    ]


def set_options(optimizer: Any, scheduler: Any, groups: Sequence[Mapping[str, Any]]) -> None:
    """Let the options of ``groups`` count again after the state of a checkpoint was read over them.

    What did not change keeps its value to the bit. A changed rate takes its place in the schedule at once.
    """
    base_rates = getattr(scheduler, "base_lrs", None)
    for index, (group, now) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        group.update({name: value for name, value in now.items() if name != _RATE and group[name] != value})
        before, rate = group.get(_RATE, group["lr"]), now[_RATE]
        if before == rate:
            continue
        group["lr"] = rate if not before else group["lr"] * (rate / before)
        group[_RATE] = rate
        if base_rates is not None:
            base_rates[index] = rate
            scheduler._last_lr[index] = group["lr"]
