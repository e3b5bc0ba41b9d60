"""Keys and values while groups are decoded: a prompt's once for all rows of its group, each row's own after them.

    prompt p    [1, kv_heads, T_p, d]     as prefilled, without its pads; every row of its group reads it
    row b       [R, kv_heads, n, d]       room for every token that may come, written in place

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

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream.transformers_names import DynamicLayer

__all__ = ["DECODE_KWARG", "GroupCache"]

DECODE_KWARG = "triptych_decode"
"""The keyword argument of a model call that hands the cache to the attention function."""
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
        super().__init__(layers=[_GroupLayer(self, layer.keys, layer.values) for layer in prefilled.layers])

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        """Keep only the rows that `kept_R` names, in their order."""
        prompts = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))[kept_R.cpu()]
        self.sizes = torch.bincount(prompts, minlength=len(self.sizes)).tolist()
        for layer in self.layers:
            layer.leave_rows(kept_R)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float | None
    ) -> torch.Tensor:
        """Attend with one token for each row: query `[R, heads, 1, d]`, the row's own keys `[R, kv_heads, n, d]`.

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
        num_rows, heads, _, width = query.shape
        grouped_query = query.reshape(num_rows, key.shape[1], heads // key.shape[1], width)
        out, own = _attend(grouped_query, key, value, 0.0, False, scale=scaling)
        out_P, prompt = torch.zeros_like(out), torch.full_like(own, -torch.inf)  # as of a prompt of one token
        first = 0
        for p, size in enumerate(self.sizes):
            rows, first = slice(first, first + size), first + size
            if size and self.pads[p] < layer.prompt_keys.shape[-2]:
                k, v = (x[p : p + 1, :, self.pads[p] :] for x in (layer.prompt_keys, layer.prompt_values))
                found, norm = _attend(_as_one_sequence(grouped_query[rows]), k, v, 0.0, False, scale=scaling)
                out_P[rows], prompt[rows] = _as_rows(found, size), _as_rows(norm, size)
        weight = torch.sigmoid(prompt - own).unsqueeze(-1).to(out.dtype)
        return torch.lerp(out, out_P, weight).reshape(num_rows, 1, heads, width)


class _GroupLayer(DynamicLayer):
    """One layer: `keys` and `values` are the rows' own, with room after the `num_decoded` tokens that are written."""

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
        """Write the next token of each row; returns the rows' own keys and values, without the prompts'."""
        if self.cache.unread is not None:
            raise IncompatibleVersionError(
                "a layer's cache was updated and its attention not computed by the function that reads it; "
                'give the family of this model path = "plain" (docs/add-a-family.md)'
            )
        self.cache.unread = self
        if self.keys is None:
            num_rows, num_heads, _, width = key_states.shape
            self.keys = key_states.new_empty(num_rows, num_heads, self.cache.room, width)
            self.values = torch.empty_like(self.keys)
        new = slice(self.num_decoded, self.num_decoded + key_states.shape[-2])
        self.keys[:, :, new], self.values[:, :, new] = key_states, value_states
        self.num_decoded = new.stop
        return self.keys[:, :, : new.stop], self.values[:, :, : new.stop]

    def get_seq_length(self) -> int:
        """Columns of a row so far, pads of its prompt included."""
        return int(self.prompt_keys.shape[-2]) + self.num_decoded

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        """Move the kept rows to the front; the room of the others is not used any more."""
        for name in ("keys", "values"):
            whole = getattr(self, name)
            whole[: len(kept_R), :, : self.num_decoded] = whole[kept_R, :, : self.num_decoded]
            setattr(self, name, whole[: len(kept_R)])


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
