"""Which input of the text backbone makes a model's log-probabilities differ from those of its stock forward.

Both forwards call the same backbone. What the stock one hands it is kept; then ours runs once more for each group of
inputs, with that group taken from the stock call and nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap

__all__ = ["culprits", "same"]

_IGNORED = {"triptych_pass", "use_cache", "cache", "past_key_values", "input_ids", "return_dict", "cache_position"}


def culprits(
    model: torch.nn.Module,
    *,
    stock: Callable[[], Any],
    ours: Callable[[], torch.Tensor],
    agrees: Callable[[torch.Tensor], bool],
    images_T: torch.Tensor,
) -> list[str]:
    """Return the groups of inputs that remove the difference when they are taken from the stock call, or else all that
    differ.

    ``stock`` and ``ours`` run one forward each; ``agrees`` says whether a result of ``ours`` equals the stock result.
    Every call runs on all ranks.
    """
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    with _inputs_of(text) as theirs:
        stock()
    with _inputs_of(text) as own:
        ours()
    differing: dict[str, dict[str, Any]] = {}
    for name in {*theirs, *own} - _IGNORED:
        if not same(theirs.get(name), own.get(name)):
            differing.setdefault(_group(name), {})[name] = theirs.get(name)
    found = []
    for group, swapped in _parts(differing, own, images_T=images_T).items():
        with _replaced(text, swapped):
            if agrees(ours()):
                found.append(group)
    return sorted(found) or sorted(_parts(differing, own, images_T=images_T))


def _group(name: str) -> str:
    if "position" in name:
        return "positions"
    return "masks" if ("mask" in name and name != "visual_pos_masks") or "token_type" in name else "features"


def _parts(
    differing: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any], *, images_T: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """The groups, embeddings split into those at image positions ("features") and those of text."""
    parts = {group: dict(swapped) for group, swapped in differing.items()}
    theirs = parts.get("features", {}).pop("inputs_embeds", None)
    if theirs is not None:
        mine = own["inputs_embeds"]
        at_images = images_T.to(mine.device)[None, :, None]
        mixed = torch.where(at_images, theirs, mine), torch.where(at_images, mine, theirs)
        for group, embeds in zip(("features", "text embeddings"), mixed, strict=True):
            if not torch.equal(embeds, mine):
                parts.setdefault(group, {})["inputs_embeds"] = embeds
    return {group: swapped for group, swapped in parts.items() if swapped}


@contextmanager
def _inputs_of(text: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """The keyword arguments of the backbone's next call, after all hooks."""
    found: dict[str, Any] = {}

    def keep(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        found.update({name: value for name, value in kwargs.items() if value is not None})

    handle = text.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def _replaced(text: torch.nn.Module, swapped: Mapping[str, Any]) -> Iterator[None]:
    def replace(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, **swapped}

    handle = text.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def same(mine: Any, own: Any) -> bool:
    """Return whether two inputs of a module are equal bit by bit."""
    if isinstance(mine, torch.Tensor) and isinstance(own, torch.Tensor):
        return mine.shape == own.shape and torch.equal(mine, own)
    if isinstance(mine, dict) and isinstance(own, dict):
        return mine.keys() == own.keys() and all(same(mine[key], own[key]) for key in mine)
    if isinstance(mine, (list, tuple)) and isinstance(own, (list, tuple)):
        return len(mine) == len(own) and all(same(one, other) for one, other in zip(mine, own, strict=True))
    return isinstance(mine, type(own)) and not isinstance(mine, torch.Tensor) and bool(mine == own)
