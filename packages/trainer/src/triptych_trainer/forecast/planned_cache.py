"""The keys and values of a traced generation: how they grow with each token, and their bytes."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.forward.group_cache import GroupCache
from triptych_trainer.upstream.torch_names import FakeTensor

__all__ = ["bytes_of_cache", "graph_tensors", "grow_cache", "num_bytes"]


def grow_cache(cache: Any, num_tokens: int) -> None:
    """Give each layer longer keys and values, one layer at a time, as decoding does.

    Layers with a sliding window keep no more than the window; recurrent states keep their size.
    """
    if num_tokens < 1:
        return
    for layer in cache.layers:
        if isinstance(cache, GroupCache):  # its rows have room for all tokens from the first one on
            layer.num_decoded += num_tokens
            continue
        window = getattr(layer, "sliding_window", None)
        for name in ("keys", "values"):
            values = getattr(layer, name, None)
            if isinstance(values, torch.Tensor):
                length = values.shape[2] + num_tokens
                kept = length if window is None else min(length, window - 1)
                setattr(layer, name, values.new_empty(*values.shape[:2], kept, values.shape[3]))
        if window is not None:
            layer.cumulative_length += num_tokens


def graph_tensors(cache: Any) -> list[torch.Tensor]:
    """Return keys and values with their graph, which lives as long as they do."""
    return [values for layer in cache.layers for values in (layer.keys, layer.values)]


def bytes_of_cache(cache: Any) -> int:
    """Return the bytes of all tensors of a cache's layers; 0 for None."""
    tensors = [
        value
        for layer in (cache.layers if cache is not None else ())
        for value in vars(layer).values()
        if isinstance(value, FakeTensor)
    ]
    return sum(num_bytes(values) for values in tensors)


def num_bytes(values: torch.Tensor) -> int:
    """Return the bytes of a tensor's values."""
    return values.numel() * values.element_size()
