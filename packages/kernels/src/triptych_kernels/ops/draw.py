"""Tokens that `torch.multinomial` would draw on a CPU, without a random number in memory for each row and id."""

from __future__ import annotations

import functools

import torch

from triptych_kernels import _native

__all__ = ["draw", "draws_as_torch"]

_STATE_BYTES = 5056
"""What `torch.get_rng_state` returns: MT19937 and the numbers that wait to be returned."""


def draw(
    probabilities_RV: torch.Tensor,
    *,
    rows_R: torch.Tensor | None = None,
    num_rows: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw one id from each row of probabilities with a generator for CPUs; ids `[R]`.

    These are the ids of `torch.multinomial(whole, 1)` for a `whole` of `num_rows` rows that contains these ones at
    `rows_R` (ascending; default: all rows), and the generator goes on as far. Call it where `draws_as_torch()`.

    Raises:
        ValueError: the probabilities are not float32 on a CPU, a row is not one of `num_rows`, or the generator is
            another one.
        ArithmeticError: a probability is negative or no number.
    """
    num_drawn, vocabulary = probabilities_RV.shape
    if probabilities_RV.dtype != torch.float32 or probabilities_RV.device.type != "cpu":
        raise ValueError(
            f"expected probabilities [R, V] in float32 on a CPU, got {probabilities_RV.dtype} on "
            f"{probabilities_RV.device}"
        )
    num_rows = num_drawn if num_rows is None else num_rows
    rows_R = torch.arange(num_drawn) if rows_R is None else rows_R.to(torch.int64).contiguous()
    rows = rows_R.tolist()
    if len(rows) != num_drawn or rows != sorted(set(rows)) or (rows and not 0 <= rows[0] <= rows[-1] < num_rows):
        raise ValueError(f"expected {num_drawn} of {num_rows} rows in ascending order, got {rows}")
    generator = torch.default_generator if generator is None else generator
    given, state = probabilities_RV.contiguous(), generator.get_state()
    if not _is_known(state):  # the kernel reads and writes it as such
        raise ValueError(
            f"expected a generator of torch for CPUs, whose state has {_STATE_BYTES} bytes, got one on "
            f"{generator.device} with {state.numel()}; draw with torch.multinomial"
        )
    ids_R = torch.empty(num_drawn, dtype=torch.int64)
    are_numbers = _native.cpu.draw(
        *(ids_R.data_ptr(), given.data_ptr(), rows_R.data_ptr(), state.data_ptr()),
        *(num_drawn, num_rows, vocabulary),
    )
    generator.set_state(state)
    if not are_numbers:
        raise ArithmeticError("expected probabilities, got one that is negative or no number")
    return ids_R


@functools.cache
def draws_as_torch() -> bool:
    """Say whether this torch draws as `draw` does: their ids and what their generators go on with are compared once."""
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    if not _is_known(one.get_state()):
        return False
    for generator in (one, other):
        torch.rand(3, generator=generator)  # an odd number of words
    weights_RV = torch.rand(3, 5000, generator=torch.Generator().manual_seed(2)).pow(8)
    expected = torch.multinomial(weights_RV, 1, generator=one)[:, 0]
    found = draw(weights_RV, generator=other)
    return torch.equal(found, expected) and torch.equal(one.get_state(), other.get_state())


def _is_known(state: torch.Tensor) -> bool:
    return state.dtype == torch.uint8 and state.numel() == _STATE_BYTES
