"""``triptych eval``: how well a model answers held-out prompts, and on which of them it does not."""

from triptych_trainer.evaluation.paired import Difference, differences, paired_interval
from triptych_trainer.evaluation.scores import Mean, ScoredRow, breakdowns, mean_interval

__all__ = [
    "Difference",
    "Mean",
    "ScoredRow",
    "breakdowns",
    "differences",
    "mean_interval",
    "paired_interval",
]
