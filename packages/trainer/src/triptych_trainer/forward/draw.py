"""Draws one token for each row that is still sampled, by the random numbers that `generate` uses for all rows.

`torch.multinomial` draws one exponential number for each row and id, and takes the id with the greatest
probability / number. As many numbers are drawn here, also for rows that have ended, so that a seed gives the same
tokens. On a CPU they are made from uniform numbers: the logarithms, which are most of the work, are computed by vectors
and only for the rows that are still sampled.
"""

from __future__ import annotations

import functools

import torch

from triptych_trainer.forward.scores import SamplingError

__all__ = ["draw_tokens"]


def draw_tokens(scores_RV: torch.Tensor, *, rows_R: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Sample a token for the rows `rows_R` of `num_rows` from their scores; ids `[R]`.

    Raises:
        SamplingError: the scores of a row are infinite or no numbers.
    """
    probabilities_RV = scores_RV.softmax(-1)
    waits_RV = _exponential(num_rows, scores_RV, rows_R=rows_R)
    greatest = probabilities_RV.div_(waits_RV).max(-1)  # a NaN is the greatest of all
    if bool(greatest.values.isnan().any()):
        raise SamplingError(
            "the model's scores for a sampled token are infinite or no numbers; go on from an earlier checkpoint with "
            "a lower --learning_rate or --max_grad_norm, and load the model with --dtype bfloat16 or float32"
        )
    return greatest.indices


def _exponential(num_rows: int, scores_RV: torch.Tensor, *, rows_R: torch.Tensor) -> torch.Tensor:
    """The rows `rows_R` of `num_rows` rows of exponential numbers `[R, V]`."""
    shape = (num_rows, scores_RV.shape[1])
    if scores_RV.device.type != "cpu" or not _is_log_of_uniform():
        waits_BV = torch.empty(shape, dtype=scores_RV.dtype, device=scores_RV.device).exponential_()
        return waits_BV if len(rows_R) == num_rows else waits_BV[rows_R]
    uniform_BV = torch.empty(shape, dtype=torch.float64).uniform_()
    uniform_RV = uniform_BV if len(rows_R) == num_rows else uniform_BV[rows_R]
    return uniform_RV.neg_().log1p_().neg_().to(scores_RV.dtype)


@functools.cache
def _is_log_of_uniform() -> bool:
    """Whether this torch draws exponential numbers on a CPU as -log(1 - u), of double-precision uniform numbers u."""
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    waits = torch.empty(64).exponential_(generator=one)
    uniform = torch.empty(64, dtype=torch.float64).uniform_(generator=other)
    same = torch.equal(waits, uniform.neg().log1p().neg().float())
    return same and torch.equal(one.get_state(), other.get_state())
