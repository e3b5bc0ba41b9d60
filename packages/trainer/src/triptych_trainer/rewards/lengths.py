"""Rewards for the length of a completion, in tokens: `length` and `cosine_length`."""

import math

from triptych_trainer.rewards.accepted import Lists
from triptych_trainer.rewards.correctness import AnswerComparison, accuracy_score, check_expected
from triptych_trainer.rewards.row import Reward, Row, row_reward


def length_reward(*, max_tokens: int, buffer_tokens: int = 0, min_tokens: int = 0) -> Reward:
    """Build the penalty: 0.0 inside the limits, down to -1.0 outside (soft overlong punishment, DAPO, eq. 13).

    It falls linearly over the last `buffer_tokens` before `max_tokens`; below `min_tokens` it is -1.0.
    """
    if not 0 <= buffer_tokens < max_tokens or not 0 <= min_tokens <= max_tokens - buffer_tokens:
        raise ValueError(
            f"expected 0 <= min_tokens <= max_tokens - buffer_tokens with a buffer below max_tokens, got "
            f"min_tokens={min_tokens}, max_tokens={max_tokens}, buffer_tokens={buffer_tokens}"
        )

    def length(row: Row) -> float:
        excess = num_completion_tokens(row) - (max_tokens - buffer_tokens)
        if num_completion_tokens(row) < min_tokens or excess > buffer_tokens:
            return -1.0
        return -excess / buffer_tokens if excess > 0 else 0.0

    return row_reward(length)


def cosine_length_reward(
    *,
    max_tokens: int,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-1.0, -0.5),
    mode: str = "auto",
    lists: Lists = "auto",
) -> Reward:
    """Build the reward: accuracy that pays for short right answers and for longer attempts at wrong ones.

    `right` and `wrong` are the values at length 0 and at `max_tokens`, joined by half a cosine (Yeo et al. 2025,
    "Demystifying Long Chain-of-Thought Reasoning", eq. 1); beyond `max_tokens` the worst of all four is given.
    """
    if max_tokens < 1:
        raise ValueError(f"expected max_tokens >= 1, got {max_tokens}")

    how = AnswerComparison(mode=mode, lists=lists)

    def cosine_length(row: Row) -> float:
        tokens = num_completion_tokens(row)
        if tokens > max_tokens:
            return min(*right, *wrong)
        short, long = right if accuracy_score(row, how=how) >= 0.5 else wrong
        return long + 0.5 * (short - long) * (1 + math.cos(math.pi * tokens / max_tokens))

    def check(row: Row) -> None:
        check_expected(row, how=how)

    return row_reward(cosine_length, check=check)


def num_completion_tokens(row: Row) -> int:
    """Return the completion's length in tokens, or raise ValueError when the trainer gave none."""
    if row.completion_ids is None:
        raise ValueError(f"{row.where}: length rewards need completion_ids, which the trainer passes")
    return len(row.completion_ids)
