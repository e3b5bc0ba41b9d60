"""Which keywords a reward gets in addition to TRL's: those that it takes, and none that changes its meaning."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch

__all__ = ["ADDED", "taking"]

ADDED = frozenset({"image_infos", "prompt_end", "example_id", "source", "answer", "solution", "images"})
"""Keywords that rewards get although TRL does not give them, or only where the data have a column of the name."""


def taking(reward: Any, *, lacking: Collection[str] = ()) -> Any:
    """Return a reward function that is called with those of `ADDED` that it takes by name or by ``**``.

    Those of ``lacking``, which are no columns of a script's dataset, it gets only where it cannot do without, or where
    it is one of Triptych's own: a default says in a script what no column means.

    >>> taking(lambda completions, images=None: images)(completions=["a"], images=[1], source=["b"])
    [1]
    >>> taking(lambda completions, images=None: images, lacking=["images"])(completions=["a"], images=[1]) is None
    True
    """
    if isinstance(reward, torch.nn.Module):
        return reward
    try:
        parameters = inspect.signature(reward).parameters
    except ValueError:  # some functions of other languages have none
        return reward
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    left_out = set() if takes_all else ADDED - parameters.keys()
    if not _is_own(reward):
        left_out |= {name for name in lacking if name not in parameters or not _is_needed(parameters[name])}
    if not left_out:
        return reward

    def call(**given: Any) -> Any:
        return reward(**{name: values for name, values in given.items() if name not in left_out})

    async def call_later(**given: Any) -> Any:
        return await call(**given)

    return call_later if _is_async(reward) else call


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD


def _function_of(reward: Callable[..., Any]) -> Any:
    while isinstance(reward, functools.partial):
        reward = reward.func
    return reward


def _is_own(reward: Callable[..., Any]) -> bool:
    """Whether a reward is of this package; others read its columns only by names that they write."""
    function = _function_of(reward)
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0] == "triptych_trainer"


def _is_async(reward: Callable[..., Any]) -> bool:
    function = _function_of(reward)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
