"""The reward `format`: is the completion in the expected layout?"""

from triptych_trainer.rewards.completion import layout_problem
from triptych_trainer.rewards.row import Reward, Row, row_reward


def format_reward() -> Reward:
    """Build the reward: 1.0 for one `<think>` block followed by one `<answer>` block and nothing else, or 0.0."""

    def score(row: Row) -> float:
        return float(layout_problem(row.text) is None)

    return row_reward(score, name="format")
