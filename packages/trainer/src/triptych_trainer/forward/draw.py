"""Draws one token for each row that is still sampled, by the random numbers that `generate` uses for all rows.

`torch.multinomial` draws one exponential number for each row and id, and takes the id with the greatest
probability / number. As many numbers are used up here, also for rows that have ended, so that a seed gives the same
tokens. On a CPU the kernel `triptych_kernels.draw` makes and compares them in one pass.
"""

from __future__ import annotations

import torch
from triptych_kernels import draw, draws_as_torch

from triptych_trainer.forward.scores import SamplingError

__all__ = ["draw_tokens"]


def draw_tokens(scores_RV: torch.Tensor, *, rows_R: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Sample a token for the rows `rows_R` of `num_rows` from their scores; ids `[R]`.

    Raises:
        SamplingError: the scores of a row are infinite or no numbers.
    """
    probabilities_RV = scores_RV.softmax(-1)
    if scores_RV.device.type == "cpu" and scores_RV.dtype == torch.float32 and draws_as_torch():
        try:
            return draw(probabilities_RV, rows_R=rows_R, num_rows=num_rows)
        except ArithmeticError as error:
            raise _refused() from error
    shape = (num_rows, scores_RV.shape[1])
    waits_BV = torch.empty(shape, dtype=scores_RV.dtype, device=scores_RV.device).exponential_()
    greatest = probabilities_RV.div_(waits_BV if len(rows_R) == num_rows else waits_BV[rows_R]).max(-1)
    if bool(greatest.values.isnan().any()):  # a NaN is the greatest of all
        raise _refused()
    return greatest.indices


def _refused() -> SamplingError:
    return SamplingError(
        "the model's scores for a sampled token are infinite or no numbers; go on from an earlier checkpoint with "
        "a lower --learning_rate or --max_grad_norm, and load the model with --dtype bfloat16 or float32"
    )
