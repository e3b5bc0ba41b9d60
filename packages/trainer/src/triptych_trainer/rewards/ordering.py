"""The reward `ordering`: are the images, or any named steps, in the right order?"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from triptych_trainer.rewards.citation import image_index, items
from triptych_trainer.rewards.row import ImageInfo, Reward, Row, expected_answer, row_reward

Score = Literal["exact", "pairs", "positions"]


def ordering_reward(*, score: Score = "exact") -> Reward:
    """Build the reward: `exact` is all or nothing, `pairs` the share of pairs in order, `positions` of right places.

    The answer lists numbers, letters or names (`3, 1, 2`, `before -> after`). An answer that leaves one out,
    repeats one or adds one gets 0.0.
    """
    if score not in ("exact", "pairs", "positions"):
        raise ValueError(f"unknown ordering score {score!r}; known: exact, pairs, positions")

    def ordering(row: Row) -> float:
        return score_order(row, score=score)

    return row_reward(ordering, check=expected_order)


def score_order(row: Row, *, score: Score = "exact") -> float:
    """Compare the order that the answer gives with the expected one."""
    expected = expected_order(row)
    answer = row.said_answer
    got = read_order(answer, row.images) if answer is not None else []
    if sorted(got) != sorted(expected):
        return 0.0
    if score == "exact":
        return float(got == expected)
    if score == "positions":
        return sum(a == b for a, b in zip(got, expected, strict=True)) / len(expected)
    place = {item: k for k, item in enumerate(got)}
    pairs = list(combinations(expected, 2))
    return sum(place[first] < place[second] for first, second in pairs) / len(pairs) if pairs else 1.0


def expected_order(row: Row) -> list[str]:
    """Return the order that a row expects; ValueError, which names the sample, where an item occurs twice."""
    expected = read_order(expected_answer(row), row.images)
    if not expected or len(set(expected)) != len(expected):
        raise ValueError(
            f"{row.where}: the answer {row.answer!r} is no order of different items; write for example '3, 1, 2'"
        )
    return expected


def read_order(text: str, images: Sequence[ImageInfo]) -> list[str]:
    """Return the listed items; numbers and names of images become the same key, so `image 2` and its name agree."""
    keys = []
    for item in items(text):
        index = image_index(item, images)
        keys.append(item.casefold() if index is None or index < 0 else f"image {index + 1}")
    return keys
