"""Keys and values while groups are decoded: a prompt's once for all rows of its group, each row's own after them.

    prompt p    [1, kv_heads, T_p, d]     as prefilled, without its pads; every row of its group reads it
    row b       [R, kv_heads, n, d]       room for every token that may come, written in place

In float32 and bfloat16 one call of a kernel attends (`triptych_kernels.DecodeCache`). Other numbers, and a forecast's
tensors, which have no memory, take two calls of torch's:

    out_P, lse_P = softmax(Q_p K_p^T) V_p     one call for a prompt, whose rows are the queries of one sequence
    out_b, lse_b = softmax(Q_b K_b^T) V_b     one call for all rows
    out = w out_P + (1 - w) out_b             w = exp(lse_P) / (exp(lse_P) + exp(lse_b)) = sigmoid(lse_P - lse_b)

Query heads that share keys are queries of one sequence, too, so no keys are repeated and no masks are built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from triptych_kernels import DecodeCache

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream.torch_names import FakeTensor
from triptych_trainer.upstream.transformers_names import DynamicLayer

__all__ = ["DECODE_KWARG", "GroupCache"]

DECODE_KWARG = "triptych_decode"
"""The keyword argument of a model call that hands the cache to the attention function."""
_KERNEL_DTYPES = (torch.float32, torch.bfloat16)
_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class GroupCache(Cache):
    """Caches `num_rows` rows: the first `sizes[0]` read the first prompt, the next `sizes[1]` the second."""

    def __init__(self, prefilled: DynamicCache, *, pads: Sequence[int], sizes: Sequence[int], room: int = 0) -> None:
        """Take over what was prefilled, `pads[p]` slots of which are no tokens; `room` tokens can be decoded."""
        self.pads = list(pads)
        self.sizes = list(sizes)
        self.room = room
        """To be set before the first token is decoded."""
        self.unread: _GroupLayer | None = None
        """The layer that was updated and not attended yet."""
        super().__init__(layers=[_layer_of(self, layer.keys, layer.values) for layer in prefilled.layers])

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        """Keep only the rows that `kept_R` names, in their order."""
        prompts = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))[kept_R.cpu()]
        self.sizes = torch.bincount(prompts, minlength=len(self.sizes)).tolist()
        for layer in self.layers:
            layer.leave_rows(kept_R)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float | None
    ) -> torch.Tensor:
        """Attend with one token for each row: query `[R, heads, 1, d]`, keys as the layer's cache returned them.

        Returns `[R, 1, heads, d]`.

        Raises:
            IncompatibleVersionError: the keys are not those that the last layer gave.
        """
        layer, self.unread = self.unread, None
        if layer is None or not (_begins_as(key, layer.keys) and _begins_as(value, layer.values)):
            raise IncompatibleVersionError(
                "expected attention to get the keys and values that its layer's cache returned, and it got others; "
                'give the family of this model path = "plain" (docs/add-a-family.md)'
            )
        return layer.attend(query, key, value, scaling=query.shape[-1] ** -0.5 if scaling is None else scaling)


class _GroupLayer(DynamicLayer):
    """One layer; `keys` and `values` begin with what the last update returned."""

    def __init__(self, cache: GroupCache, prompt_keys: torch.Tensor, prompt_values: torch.Tensor) -> None:
        super().__init__()
        self.cache = cache
        self.keys: Any = None
        self.values: Any = None
        self.prompt_keys, self.prompt_values = prompt_keys, prompt_values
        self.num_decoded = 0
        self.dtype, self.device, self.is_initialized = prompt_keys.dtype, prompt_keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the next token of each row; returns what `attend` of the cache expects to get."""
        if self.cache.unread is not None:
            raise IncompatibleVersionError(
                "a layer's cache was updated and its attention not computed by the function that reads it; "
                'give the family of this model path = "plain" (docs/add-a-family.md)'
            )
        self.cache.unread = self
        self.num_decoded += key_states.shape[-2]
        return self.take(key_states, value_states)

    def take(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the next token of each row."""
        raise NotImplementedError

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        """Attend to the prompts and to what was taken: `[R, 1, heads, d]`."""
        raise NotImplementedError

    def get_seq_length(self) -> int:
        """Columns of a row so far, pads of its prompt included."""
        return int(self.prompt_keys.shape[-2]) + self.num_decoded

    def prompts(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each prompt without its pads, `[kv_heads, T_p, d]`."""
        return [
            (keys[:, pads:], values[:, pads:])
            for keys, values, pads in zip(self.prompt_keys, self.prompt_values, self.cache.pads, strict=True)
        ]


class _KernelLayer(_GroupLayer):
    """Keys and values are in the kernel's cache, which the call that attends writes, too."""

    decoded: DecodeCache | None = None

    def take(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        dtype = self.prompt_keys.dtype
        if self.decoded is None:
            prompts = [(keys, values.to(dtype)) for keys, values in self.prompts()]
            self.decoded = DecodeCache(prompts, sizes=self.cache.sizes, room=self.cache.room)
        # under autocast values are bfloat16, and keys float32 where the model turns them in float32
        queries, keys, values = (states.squeeze(2).to(dtype) for states in (query, key, value))
        return self.decoded.attend(queries, keys, values, scale=scaling).to(query.dtype).unsqueeze(1)

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        if self.decoded is not None:
            self.decoded.leave_rows(kept_R)


class _JoinedLayer(_GroupLayer):
    """`keys` and `values` are the rows' own, with room after the `num_decoded` tokens that are written."""

    def take(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None:
            num_rows, num_heads, _, width = key_states.shape
            self.keys = key_states.new_empty(num_rows, num_heads, self.cache.room, width)
            self.values = torch.empty_like(self.keys)
        new = slice(self.num_decoded - key_states.shape[-2], self.num_decoded)
        self.keys[:, :, new], self.values[:, :, new] = key_states, value_states
        return self.keys[:, :, : new.stop], self.values[:, :, : new.stop]

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float) -> torch.Tensor:
        num_rows, heads, _, width = query.shape
        grouped_query = query.reshape(num_rows, key.shape[1], heads // key.shape[1], width)
        out, own = _attend(grouped_query, key, value, 0.0, False, scale=scaling)
        out_P, prompt = torch.zeros_like(out), torch.full_like(own, -torch.inf)  # as of a prompt of one token
        first = 0
        for size, (keys, values) in zip(self.cache.sizes, self.prompts(), strict=True):
            rows, first = slice(first, first + size), first + size
            if size and keys.shape[1]:
                queries = _as_one_sequence(grouped_query[rows])
                found, norm = _attend(queries, keys[None], values[None], 0.0, False, scale=scaling)
                out_P[rows], prompt[rows] = _as_rows(found, size), _as_rows(norm, size)
        weight = torch.sigmoid(prompt - own).unsqueeze(-1).to(out.dtype)
        return torch.lerp(out, out_P, weight).reshape(num_rows, 1, heads, width)

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        """Move the kept rows to the front; the room of the others is not used any more."""
        for name in ("keys", "values"):
            whole = getattr(self, name)
            whole[: len(kept_R), :, : self.num_decoded] = whole[kept_R, :, : self.num_decoded]
            setattr(self, name, whole[: len(kept_R)])


class _ForecastLayer(_JoinedLayer):
    """Computes on tensors without memory, and has one for what the kernel's cache has more than theirs."""

    more: torch.Tensor | None = None

    def take(self, key_states: torch.Tensor, value_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.more is None:
            num_rows, num_heads, _, width = key_states.shape
            lengths = [keys.shape[1] for keys, _ in self.prompts()]
            room = self.cache.room
            all_of_it = DecodeCache.num_values(lengths, num_rows=num_rows, room=room, num_heads=num_heads, width=width)
            self.more = key_states.new_empty(all_of_it - 2 * num_rows * num_heads * room * width)
        return super().take(key_states, value_states)


def _layer_of(cache: GroupCache, prompt_keys: torch.Tensor, prompt_values: torch.Tensor) -> _GroupLayer:
    has_kernel = prompt_keys.dtype in _KERNEL_DTYPES and prompt_keys.device.type == "cpu"
    kind = _JoinedLayer if not has_kernel else _ForecastLayer if isinstance(prompt_keys, FakeTensor) else _KernelLayer
    return kind(cache, prompt_keys, prompt_values)


def _begins_as(part: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether a tensor is the beginning of another, in its memory; a forecast's tensors have no addresses."""
    same = part.untyped_storage()._cdata == whole.untyped_storage()._cdata
    return same and part.storage_offset() == whole.storage_offset()


def _as_one_sequence(grouped_query: torch.Tensor) -> torch.Tensor:
    """`[R, kv_heads, Q, d]` -> `[1, kv_heads, R * Q, d]`."""
    return grouped_query.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _as_rows(found: torch.Tensor, num_rows: int) -> torch.Tensor:
    """The inverse: `[1, kv_heads, R * Q, ...]` -> `[R, kv_heads, Q, ...]`."""
    return found[0].unflatten(1, (num_rows, -1)).transpose(0, 1)
