"""The column of ``eval --position``: which image of its prompt an answer is about."""

from collections.abc import Iterable
from typing import Any

from triptych_data import Example

from triptych_trainer.errors import UsageError

__all__ = ["check_positions"]


def check_positions(examples: Iterable[Example], column: str) -> None:
    """Check before anything is sampled that a column says of every row which image, from 1, its answer is about.

    A row may lack it, or have null.

    Raises:
        UsageError: names the first row whose value is no number of one of its images.
    """
    for example in examples:
        value, count = example.extras.get(column), len(example.images)
        if value is None or (_is_whole(value) and 1 <= int(value) <= count):
            continue
        raise UsageError(
            f"--position {column}: expected the number of an image, from 1 to {count}, in every row, got {value!r} in "
            f"{example.source} (id {example.id}); name another column, or slice by this one with --by {column}"
        )


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal() and value.isascii()
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
