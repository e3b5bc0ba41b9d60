"""The reward `format`: is the completion in the expected layout?"""

from triptych_trainer.rewards.completion import THINK_CLOSE, THINK_OPEN, layout_problem
from triptych_trainer.rewards.row import Reward, Row, row_reward


def format_reward() -> Reward:
    """Build the reward: 1.0 for one `<think>` block followed by one `<answer>` block and nothing else, or 0.0.

    A `<think>` with which the chat template ends the prompt counts.
    """

    def score(row: Row) -> float:
        return float(layout_problem(row.text, opened=opening(row)) is None)

    return row_reward(score, name="format")


def opening(row: Row) -> str:
    """Return what the prompt began; where the prompt is not known, a block that is closed and not opened was begun."""
    if row.opened is not None:
        return row.opened
    return THINK_OPEN if THINK_CLOSE in row.text and THINK_OPEN not in row.text else ""
