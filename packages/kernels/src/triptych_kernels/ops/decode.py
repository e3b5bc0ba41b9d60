"""Attention of one new token for each of some rows on a CPU, with every prompt's keys and values once for its rows."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from triptych_kernels import _native
from triptych_kernels.memory import in_huge_pages

__all__ = ["DecodeCache"]

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
KeysAndValues = tuple[torch.Tensor, torch.Tensor]


class DecodeCache:
    """Contains keys and values of one layer: each prompt's once for all of its rows, and each row's own.

    A row's results have the same bits for every number of rows and of threads; sums are float32. There are no
    gradients.
    """

    def __init__(self, prompts: Sequence[KeysAndValues], *, sizes: Sequence[int], room: int) -> None:
        """Take keys and values `[kv_heads, T, width]` of each prompt, `sizes[p]` rows of which are decoded.

        A prompt may have no tokens. `room` tokens fit into each row. Keys are copied; values are
        read where they are, if the width is a multiple of 16.

        Raises:
            TypeError: they are not float32 or bfloat16 on a CPU, all the same.
            ValueError: shapes or numbers do not fit one another.
        """
        _check_prompts(prompts, sizes=sizes, room=room)
        keys = prompts[0][0]
        self.sizes = list(sizes)
        """Rows of each prompt."""
        self.num_tokens = 0
        """Tokens that each row has after its prompt."""
        num_heads, _, width = keys.shape
        num_rows, num_blocks = sum(sizes), -(-room // _native.cpu.key_block)
        self.prompts = [(_in_blocks(keys), _in_units(values)) for keys, values in prompts]
        """Keys in blocks `[kv_heads, B, width, W]`, values `[kv_heads, T, width]` with zeros up to a whole unit."""
        units = width + -width % _native.cpu.value_unit
        self.keys = in_huge_pages(num_rows, num_heads, num_blocks, width, _native.cpu.key_block, dtype=keys.dtype)
        self.values = in_huge_pages(num_rows, num_heads, room, units, dtype=keys.dtype)
        self.values[..., width:] = 0
        self._width = width
        self._slots_R = torch.arange(num_rows)
        self._prompts_P6 = self._table()

    @staticmethod
    def num_values(lengths: Sequence[int], *, num_rows: int, room: int, num_heads: int, width: int) -> int:
        """Count the numbers that a cache has memory for, without values of prompts that it reads where they are.

        `lengths` are the tokens of each prompt, `num_heads` the key heads.
        """
        block, units = _native.cpu.key_block, width + -width % _native.cpu.value_unit
        own = num_rows * (-(-room // block) * block * width + room * units)
        copied = sum(-(-length // block) * block * width + (units != width) * length * units for length in lengths)
        return num_heads * (own + copied)

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, scale: float) -> torch.Tensor:
        """Add a token to every row and attend with it to its prompt and to the row's tokens; `[R, heads, width]`.

        Query heads that share a key head follow one another. Rows follow one another by prompt.

        Raises:
            ValueError: the tensors do not fit the cache, or the rows are full.
        """
        self._check(query, keys, values)
        num_rows, num_heads, width = query.shape
        query, keys, values = query.contiguous(), keys.contiguous(), values.contiguous()
        out = torch.empty_like(query)
        self.num_tokens += 1
        _native.cpu.decode_attention(
            *(out.data_ptr(), query.data_ptr(), keys.data_ptr(), values.data_ptr()),
            *(
                self.keys.data_ptr(),
                self.values.data_ptr(),
                self._slots_R.data_ptr(),
                self._prompts_P6.buffer_info()[0],
            ),
            *(num_rows, num_heads, keys.shape[1], width, len(self.sizes), self.num_tokens, self.values.shape[2]),
            *(scale, _DTYPES[query.dtype], torch.get_num_threads()),
        )
        return out

    def leave_rows(self, kept_R: torch.Tensor) -> None:
        """Keep only the rows that `kept_R` names, in ascending order; nothing is moved."""
        prompt_of_row = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))
        self._slots_R = self._slots_R[kept_R]
        self.sizes = torch.bincount(prompt_of_row[kept_R], minlength=len(self.sizes)).tolist()
        self._prompts_P6 = self._table()

    def _table(self) -> array[int]:
        """The prompts as the kernel reads them."""
        table = array("q")
        for (keys, values), size in zip(self.prompts, self.sizes, strict=True):
            table.extend((keys.data_ptr(), values.data_ptr(), *values.stride()[:2], values.shape[1], size))
        return table

    def _check(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        num_rows, (kv_heads, room), width = len(self._slots_R), self.values.shape[1:3], self._width
        fits = query.dim() == 3 and query.shape[::2] == (num_rows, width) and query.shape[1] % kv_heads == 0
        same = keys.shape == values.shape == (num_rows, kv_heads, width)
        if not (fits and same and {query.dtype, keys.dtype, values.dtype} == {self.keys.dtype}):
            raise ValueError(
                f"expected a query [{num_rows}, a multiple of {kv_heads}, {width}], and keys and values "
                f"[{num_rows}, {kv_heads}, {width}], all {self.keys.dtype}, got {list(query.shape)} of {query.dtype}, "
                f"{list(keys.shape)} of {keys.dtype} and {list(values.shape)} of {values.dtype}"
            )
        if self.num_tokens == room:
            raise ValueError(f"the cache was made for {room} tokens a row, and all have been decoded")


def _check_prompts(prompts: Sequence[KeysAndValues], *, sizes: Sequence[int], room: int) -> None:
    if not prompts or len(prompts) != len(sizes) or min(sizes) < 0 or room < 1:
        raise ValueError(
            "expected at least one prompt, a number of rows for each, and room for at least one token, got "
            f"{len(prompts)} prompts, rows {list(sizes)} and room for {room}"
        )
    first = prompts[0][0]
    for p, (keys, values) in enumerate(prompts):
        for tensor in (keys, values):
            if tensor.dtype not in _DTYPES or tensor.device.type != "cpu" or tensor.dtype != first.dtype:
                raise TypeError(
                    f"expected keys and values in float32 or bfloat16 on a CPU, all the same, got {tensor.dtype} on "
                    f"{tensor.device} for prompt {p}, and {first.dtype} for prompt 0"
                )
        expected = (first.shape[0], *keys.shape[1:2], first.shape[-1])
        if keys.dim() != 3 or keys.shape != values.shape or keys.shape != expected:
            raise ValueError(
                f"expected keys and values [{first.shape[0]}, T, {first.shape[-1]}] of each prompt, as in prompt 0, "
                f"got {list(keys.shape)} and {list(values.shape)} for prompt {p}"
            )


def _in_blocks(keys: torch.Tensor) -> torch.Tensor:
    num_heads, num_tokens, width = keys.shape
    block = _native.cpu.key_block
    padded = F.pad(keys.detach(), (0, 0, 0, -num_tokens % block))
    return padded.view(num_heads, -1, block, width).transpose(2, 3).contiguous()


def _in_units(values: torch.Tensor) -> torch.Tensor:
    values = values.detach()
    rest = -values.shape[-1] % _native.cpu.value_unit
    if rest:
        return F.pad(values, (0, rest))
    return values if values.stride(-1) == 1 else values.contiguous()
