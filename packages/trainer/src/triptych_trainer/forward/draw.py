"""Draws one token for each row that is still sampled, by the random numbers that `generate` uses for all rows.

`torch.multinomial` draws one exponential number for each row and id, and takes the id with the greatest
probability / number. As many numbers are drawn here, also for rows that have ended, so that a seed gives the same
tokens. On a CPU they are made from uniform numbers u as -log(1 - u). This is at least u, so probability / u is at least
what is compared, and logarithms are needed only for the few ids whose bound reaches the greatest found.
"""

from __future__ import annotations

import functools

import torch

from triptych_trainer.forward.scores import SamplingError

__all__ = ["draw_tokens"]

_SLACK = 1.0 + 1e-5
"""More than what rounding takes from a bound."""


def draw_tokens(scores_RV: torch.Tensor, *, rows_R: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Sample a token for the rows `rows_R` of `num_rows` from their scores; ids `[R]`.

    Raises:
        SamplingError: the scores of a row are infinite or no numbers.
    """
    probabilities_RV = scores_RV.softmax(-1)
    shape = (num_rows, scores_RV.shape[1])
    if scores_RV.device.type == "cpu" and scores_RV.dtype == torch.float32 and _is_log_of_uniform():
        uniform_BV = torch.empty(shape, dtype=torch.float64).uniform_()
        return _greatest(probabilities_RV, uniform_BV if len(rows_R) == num_rows else uniform_BV[rows_R])
    waits_BV = torch.empty(shape, dtype=scores_RV.dtype, device=scores_RV.device).exponential_()
    greatest = probabilities_RV.div_(waits_BV if len(rows_R) == num_rows else waits_BV[rows_R]).max(-1)
    _check(greatest.values)
    return greatest.indices


def _greatest(probabilities_RV: torch.Tensor, uniform_RV: torch.Tensor) -> torch.Tensor:
    """The id of each row with the greatest probability / -log(1 - u)."""
    bounds_RV = probabilities_RV / uniform_RV.float()
    first = bounds_RV.max(-1, keepdim=True)
    _check(first.values)
    found_R1 = _exact(probabilities_RV.gather(1, first.indices), uniform_RV.gather(1, first.indices))
    rows_K, ids_K = (bounds_RV >= found_R1 / _SLACK).nonzero(as_tuple=True)
    exact_K = _exact(probabilities_RV[rows_K, ids_K], uniform_RV[rows_K, ids_K])
    best: dict[int, tuple[float, int]] = {}
    for row, token, value in zip(rows_K.tolist(), ids_K.tolist(), exact_K.tolist(), strict=True):
        if row not in best or value > best[row][0]:
            best[row] = (value, token)
    return torch.tensor([best[row][1] for row in range(len(bounds_RV))])


def _exact(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    return probabilities / uniform.neg().log1p_().neg_().float()


def _check(greatest_R: torch.Tensor) -> None:
    if bool(greatest_R.isnan().any()):  # a NaN is the greatest of all
        raise SamplingError(
            "the model's scores for a sampled token are infinite or no numbers; go on from an earlier checkpoint with "
            "a lower --learning_rate or --max_grad_norm, and load the model with --dtype bfloat16 or float32"
        )


@functools.cache
def _is_log_of_uniform() -> bool:
    """Whether this torch draws exponential numbers on a CPU as -log(1 - u), of double-precision uniform numbers u."""
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    waits = torch.empty(64).exponential_(generator=one)
    uniform = torch.empty(64, dtype=torch.float64).uniform_(generator=other)
    same = torch.equal(waits, uniform.neg().log1p().neg().float())
    return same and torch.equal(one.get_state(), other.get_state())
