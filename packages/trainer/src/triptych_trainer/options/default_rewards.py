"""The rewards of a command line that names none."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DefaultRewards", "named_rewards"]


class DefaultRewards(list[str]):
    """Marks a default of ``--reward``, so that an environment can replace it."""


def named_rewards(rewards: Sequence[str], *, has_environment: bool) -> list[str]:
    """Return the rewards that ``--reward`` names, or none if it was left out and an environment says what a rollout was
    worth.

    >>> named_rewards(DefaultRewards(["accuracy"]), has_environment=True)
    []
    >>> named_rewards(["accuracy"], has_environment=True)
    ['accuracy']
    """
    return [] if has_environment and isinstance(rewards, DefaultRewards) else list(rewards)
