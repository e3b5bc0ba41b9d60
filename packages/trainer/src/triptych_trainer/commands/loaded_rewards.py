"""What `eval`, `rollout` and `score` share: the rewards of a command line, and their weights."""

from collections.abc import Callable, Sequence
from typing import Any

from triptych_trainer.commands.light_checks import check_num_weights
from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.loading import PREFIX
from triptych_trainer.rewards.names import reward_name
from triptych_trainer.rewards.read import read_rewards

__all__ = ["named_weights", "reward_functions"]


def reward_functions(specs: Sequence[str], *, has_environment: bool = False) -> list[Callable[..., Any]]:
    """Return the reward functions that ``--reward`` names, loaded as a run loads them.

    Raises:
        UsageError: one cannot be loaded, or is a model.
    """
    if models := [spec for spec in specs if spec.startswith(PREFIX)]:
        raise UsageError(
            f"--reward {models[0]}: expected reward functions, got a reward model, which scores only while `train` "
            "runs; leave it out here"
        )
    return read_rewards(specs, has_environment=has_environment)


def named_weights(rewards: Sequence[Callable[..., Any]], weights: Sequence[float] | None) -> dict[str, float]:
    """Return the weights that ``--reward_weights`` gives, by the names of the rewards; empty if it was not given.

    Raises:
        UsageError: there are more or fewer weights than rewards, or they leave nothing of the rewards.
    """
    if weights is None:
        return {}
    check_num_weights(len(rewards), weights)
    return {reward_name(reward): weight for reward, weight in zip(rewards, weights, strict=True)}
