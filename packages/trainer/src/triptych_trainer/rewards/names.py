"""The names of rewards in logs and reports."""

import sys
from typing import Any

__all__ = ["reward_name"]


def reward_name(reward: Any) -> str:
    """Return the name under which TRL logs a reward: a function's own, or the last part of a model's path."""
    transformers = sys.modules.get("transformers")  # without it nothing is a model
    if transformers is not None and isinstance(reward, transformers.PreTrainedModel):
        return str(reward.config._name_or_path).split("/")[-1]
    return getattr(reward, "__name__", type(reward).__name__)
