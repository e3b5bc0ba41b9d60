"""The reward `accuracy`: is the answer right?"""

from collections.abc import Mapping

from triptych_trainer.rewards import matching
from triptych_trainer.rewards.completion import extract_answer
from triptych_trainer.rewards.matching import Matcher
from triptych_trainer.rewards.row import Reward, Row, expected_answer, row_reward

MODES: Mapping[str, Matcher] = {
    "auto": matching.same_any,
    "exact": matching.same_text,
    "numeric": matching.same_number,
    "choice": matching.same_choice,
    "yes_no": matching.same_yes_no,
    "math": matching.same_math,
}


def accuracy_reward(*, mode: str = "auto") -> Reward:
    """Build the reward: 1.0 for a right answer, 0.0 for a wrong, missing or unfinished one."""
    match = _matcher(mode)

    def accuracy(row: Row) -> float:
        expected = expected_answer(row)
        answer = extract_answer(row.text)
        return float(answer is not None and match(answer, expected))

    return row_reward(accuracy)


def _matcher(mode: str) -> Matcher:
    if mode not in MODES:
        raise ValueError(f"unknown accuracy mode {mode!r}; known modes: {', '.join(MODES)}")
    return MODES[mode]
