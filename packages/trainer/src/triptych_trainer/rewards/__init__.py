"""Reward functions in TRL's convention, for answers about several images."""

from triptych_trainer.rewards.completion import Reading, completion_text, extract_answer, read_completion
from triptych_trainer.rewards.correctness import accuracy_reward
from triptych_trainer.rewards.guard import RewardError, guarded
from triptych_trainer.rewards.layout import format_reward
from triptych_trainer.rewards.loading import KNOWN_REWARDS, load_reward
from triptych_trainer.rewards.row import ImageInfo, Reward, Row, row_reward

__all__ = [
    "KNOWN_REWARDS",
    "ImageInfo",
    "Reading",
    "Reward",
    "RewardError",
    "Row",
    "accuracy_reward",
    "completion_text",
    "extract_answer",
    "format_reward",
    "guarded",
    "load_reward",
    "read_completion",
    "row_reward",
]
