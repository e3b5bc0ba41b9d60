"""What is done to the scores of a next token before it is sampled: ids are suppressed, and the first scores checked."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor
from triptych_parser import Refusal


class SuppressIds(LogitsProcessor):
    """Sets the scores of some ids to minus infinity, so that they are never sampled; other ids are ignored."""

    def __init__(self, ids: tuple[int, ...]) -> None:
        self.ids = ids
        self.ids_K: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores `[B, V]` -> the same with the suppressed columns at -inf."""
        if self.ids_K is None or self.ids_K.device != scores.device:
            known = [token for token in self.ids if 0 <= token < scores.shape[1]]
            self.ids_K = torch.tensor(known, dtype=torch.long, device=scores.device)
        return scores.index_fill(1, self.ids_K, -torch.inf)  # type: ignore[return-value]


class SamplingError(Refusal, RuntimeError):
    """Says that a model gives no numbers from which a token could be sampled."""


class CheckFirstScores(LogitsProcessor):
    """Looks once, at the first token, whether the scores are numbers; a CUDA device would not survive the draw."""

    def __init__(self) -> None:
        self.checked = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores `[B, V]`, unchanged.

        Raises:
            SamplingError: a score is NaN or plus infinity.
        """
        if not self.checked and bool((scores.isnan() | (scores == torch.inf)).any()):
            raise SamplingError(
                "the model's scores for the first token are infinite or no numbers, so that nothing can be sampled: "
                "its weights overflowed in an earlier step, or its numbers do in float16; go on from an earlier "
                "checkpoint with a lower --learning_rate or --max_grad_norm, look for a reward or a --beta that makes "
                "the loss infinite, and load the model with --dtype bfloat16 or float32"
            )
        self.checked = True
        return scores
