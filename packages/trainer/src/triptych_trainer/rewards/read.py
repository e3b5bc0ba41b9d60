"""The rewards of a command line."""

from collections.abc import Callable, Sequence
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.guard import guarded
from triptych_trainer.rewards.loading import PREFIX, load_reward
from triptych_trainer.rewards.reward_model import load_reward_model

__all__ = ["read_rewards"]


def read_rewards(specs: Sequence[str]) -> list[Callable[..., Any]]:
    """Load the rewards that ``--reward`` names, wrapped so that a failure names function, sample and completion."""
    try:
        return [load_reward_model(spec) if spec.startswith(PREFIX) else guarded(load_reward(spec)) for spec in specs]
    except ValueError as error:
        raise UsageError(f"--reward: {error}") from error
