"""Caches that carry gradients: the prompt's keys, values and recurrent states, recorded once and read by every branch.

transformers' caches append or copy in place, which breaks autograd (recurrent states) or doubles under gradient
checkpointing (keys). Here a recording layer only assigns and a reading layer never stores, so running a layer again
in the backward pass changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import Cache, DynamicCache

from triptych_trainer.upstream.transformers_names import (
    CacheLayerMixin,
    DynamicLayer,
    GradientCheckpointingLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

LayerState = tuple[torch.Tensor, torch.Tensor]
"""(keys, values) of an attention layer, (convolution state, recurrent state) of a linear-attention layer.

A layer that only convolves has an empty recurrent state."""


class _RecordAttention(DynamicLayer):
    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> LayerState:
        self.recorded = (key_states, value_states)
        return self.recorded


class _ReadAttention(DynamicLayer):
    def __init__(self, state: LayerState) -> None:
        super().__init__()
        self.keys, self.values = state
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> LayerState:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


class _RecordLinear(LinearAttentionLayer):
    """`has_previous_state` stays False, so that a second run of the layer starts from nothing, too."""

    def update_conv_state(
        self, conv_states: torch.Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **kwargs: Any
    ) -> torch.Tensor:
        size = conv_kernel_size or conv_states.shape[-1]
        padded = torch.nn.functional.pad(conv_states, (max(0, size - conv_states.shape[-1]), 0))
        self.recorded = (padded[..., -size:], padded[..., :0])
        return padded

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **kwargs: Any) -> torch.Tensor:
        self.recorded = (self.recorded[0], recurrent_states)
        return recurrent_states


class _ReadLinear(LinearAttentionLayer):
    def __init__(self, state: LayerState) -> None:
        super().__init__()
        self.conv_states[0], self.recurrent_states[0] = state
        self.has_previous_state[0] = True

    def update_conv_state(
        self, conv_states: torch.Tensor, state_idx: int = 0, conv_kernel_size: int | None = None, **kwargs: Any
    ) -> torch.Tensor:
        return torch.cat([self.conv_states[state_idx], conv_states], dim=-1)

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **kwargs: Any) -> torch.Tensor:
        return recurrent_states


def recording_cache(text_config: Any) -> Cache:
    """Return an empty cache that records what the layers of `text_config` compute.

    Raises:
        NotImplementedError: a layer keeps both attention keys and recurrent states.
    """
    layers: list[Any] = []
    for index, layer in enumerate(DynamicCache(config=text_config).layers):
        linear = isinstance(layer, LinearAttentionCacheLayerMixin)
        if linear and isinstance(layer, CacheLayerMixin):
            raise NotImplementedError(f"layer {index} mixes attention and recurrent states; use the plain pass")
        if not linear and not isinstance(layer, CacheLayerMixin):
            layers.append(layer)  # it reads the keys of another layer, and has none
        else:
            layers.append(_RecordLinear() if linear else _RecordAttention())
    return Cache(layers=layers)


def recorded_states(cache: Cache) -> list[LayerState]:
    """Return what a recording cache contains after a forward, one pair per layer that contains any; its rows are
    prompts.
    """
    return [layer.recorded for layer in cache.layers if _holds_states(layer)]


def reading_cache(cache: Cache, states: Sequence[LayerState], *, rows: torch.Tensor) -> Cache:
    """Return a cache whose row b continues prompt `rows[b]` of the recorded states; it is differentiable."""
    layers: list[Any] = []
    left = iter(states)
    for layer in cache.layers:
        if not _holds_states(layer):
            layers.append(layer)
            continue
        first, second = next(left)
        state = (first.index_select(0, rows), second.index_select(0, rows))
        layers.append(_ReadLinear(state) if isinstance(layer, _RecordLinear) else _ReadAttention(state))
    return Cache(layers=layers)


def _holds_states(layer: Any) -> bool:
    return isinstance(layer, (_RecordAttention, _RecordLinear))


@contextmanager
def checkpointing_keeps_caches(model: torch.nn.Module) -> Iterator[None]:
    """Let checkpointed layers see their cache: true for these caches, which a second run does not change."""
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    try:
        for layer in layers:
            layer._can_checkpoint_with_cache = True
        yield
    finally:
        for layer in layers:
            del layer._can_checkpoint_with_cache


def uses_reentrant_checkpointing(model: torch.nn.Module) -> bool:
    """Return whether a layer would be checkpointed by the reentrant method, which cuts the recorded states off the
    graph.
    """
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        if not (getattr(module, "gradient_checkpointing", False) and module.training and function is not None):
            continue
        if not isinstance(function, partial) or function.keywords.get("use_reentrant", True):
            return True
    return False
