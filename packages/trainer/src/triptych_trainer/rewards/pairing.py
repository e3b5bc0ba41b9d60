"""Pair two sets one to one so that the pairs are worth most in sum."""

from collections.abc import Sequence

__all__ = ["best_pairs"]


def best_pairs(worth: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Return (row, column) of each pair of the best pairing; pairs that are worth nothing are left out.

    Rows and columns are used once (the linear assignment problem; Crouse 2016, as scipy solves it).
    """
    if not worth or not any(any(row) for row in worth):
        return []
    from scipy.optimize import linear_sum_assignment  # here, because it takes long to import

    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if worth[row][column]]
