"""A layer of a cache with room for further tokens, so that not every decoded token copies all keys and values.

transformers joins the old and the new keys of a layer at every token, which copies all of them.
"""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.upstream.transformers_names import DynamicLayer

__all__ = ["RoomyLayer"]

ROOM_TOKENS = 64
"""The least room for further tokens that is made when there is none."""


class RoomyLayer(DynamicLayer):
    """Keeps `keys` and `values` as the first columns of longer tensors, until somebody replaces them; without gradients
    only.
    """

    _whole: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write further tokens after the known ones; returns the keys and values of all."""
        if torch.is_grad_enabled():
            self._whole = None
            found: tuple[torch.Tensor, torch.Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return found
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        known, new = self.get_seq_length(), key_states.shape[-2]
        if known == 0 and new > 1:  # a prefill, after which rows are repeated or moved
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        if not self._has_room(known + new):
            self._make_room(key_states, value_states, known=known, length=known + new)
        assert self._whole is not None
        for name, whole, states in zip(("keys", "values"), self._whole, (key_states, value_states), strict=True):
            whole[:, :, known : known + new] = states
            setattr(self, name, whole[:, :, : known + new])
        return self.keys, self.values

    def _has_room(self, length: int) -> bool:
        """Whether the longer tensors are still those of `keys` and `values`, row by row, and long enough."""
        if self._whole is None or self.get_seq_length() == 0:
            return False
        return all(
            view.data_ptr() == whole.data_ptr()
            and view.shape[:2] == whole.shape[:2]
            and view.stride() == whole.stride()
            and length <= whole.shape[2]
            for view, whole in zip((self.keys, self.values), self._whole, strict=True)
        )

    def _make_room(self, key_states: torch.Tensor, value_states: torch.Tensor, *, known: int, length: int) -> None:
        made = []
        for old, states in ((self.keys, key_states), (self.values, value_states)):
            rows, heads, _, width = states.shape
            whole = states.new_empty(rows, heads, length + max(ROOM_TOKENS, length // 16), width)
            if known:
                whole[:, :, :known] = old
            made.append(whole)
        self._whole = (made[0], made[1])
