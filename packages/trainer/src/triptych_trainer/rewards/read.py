"""The rewards of a command line."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.guard import guarded
from triptych_trainer.rewards.loading import PREFIX, load_reward, of_option
from triptych_trainer.rewards.names import reward_name
from triptych_trainer.rewards.verdict import verdict_of

__all__ = ["check_verdict", "chosen_verdict", "read_rewards"]


def read_rewards(specs: Sequence[str], *, has_environment: bool = False) -> list[Callable[..., Any]]:
    """Load the rewards that ``--reward`` names, wrapped so that a failure names function, sample and completion.

    Raises:
        UsageError: there is no such reward, or none although no environment says what a rollout was worth, or two
            have the same name and would be taken for each other.
    """
    if not specs and has_environment:
        return []
    if not specs:
        raise UsageError("--reward: expected at least one reward, got none; only an --environment can do without")
    found = [_model(spec) if spec.startswith(PREFIX) else guarded(_function(spec)) for spec in specs]
    names = [reward_name(reward) for reward in found]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        alike = " and ".join(spec for spec, own in zip(specs, names, strict=True) if own == name)
        raise UsageError(
            f"--reward: {alike} are both called {name} in logs and reports; expected names that differ: write a "
            "function of your own around one of them"
        )
    return found


def _model(spec: str) -> Any:
    from triptych_trainer.rewards.reward_model import (
        load_reward_model,  # brings transformers, which functions do without
    )

    return load_reward_model(spec)


def _function(spec: str) -> Callable[..., Any]:
    try:
        return load_reward(spec)
    except ValueError as error:
        raise UsageError(of_option(error)) from error


def chosen_verdict(rewards: Sequence[Any], verdict: str | None) -> str | None:
    """Return the reward that ``--verdict`` names, or the usual one, or None if no reward says right or wrong.

    Raises:
        UsageError: there is no such reward.
    """
    return check_verdict([reward_name(reward) for reward in rewards], verdict)


def check_verdict(names: Sequence[str], verdict: str | None) -> str | None:
    """Check ``--verdict`` against the names of the rewards, and return as `chosen_verdict` does.

    Raises:
        UsageError: there is no such reward.
    """
    try:
        return verdict_of(names, verdict)
    except ValueError as error:
        raise UsageError(str(error)) from error
