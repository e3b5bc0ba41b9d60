"""How a run may correct for an engine that samples from a slightly other distribution than the trainer scores."""

from typing import Literal, get_args

__all__ = ["CORRECTION_MODES", "CorrectionMode"]

CorrectionMode = Literal[
    "token_truncate",
    "token_mask",
    "sequence_truncate",
    "sequence_mask",
    "sequence_mean_truncate",
    "sequence_mean_mask",
]
"""The values of ``--vllm_importance_sampling_mode``: TRL's four, and two that take the geometric mean over a rollout's
tokens, which does not grow with their number."""
CORRECTION_MODES: tuple[CorrectionMode, ...] = get_args(CorrectionMode)
