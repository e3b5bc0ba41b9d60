"""Which reward says of a completion whether it is right: pages show that, and find what is wrong by it."""

from collections.abc import Sequence

from triptych_data.option_parser import nearest

__all__ = ["verdict_of"]

USUAL = "accuracy"


def verdict_of(rewards: Sequence[str], chosen: str | None) -> str | None:
    """Return the name of the reward that was chosen, or `accuracy` if it is among them, or else None. Right is 0.5 or
    more.

    Raises:
        ValueError: the chosen one is not among the rewards; lists them.
    """
    if chosen is None:
        return USUAL if USUAL in rewards else None
    if chosen not in rewards:
        hint = nearest(chosen, tuple(rewards))
        raise ValueError(f"--verdict {chosen}: expected the name of a reward, one of {', '.join(rewards)}{hint}")
    return chosen
