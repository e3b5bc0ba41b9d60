"""Means with confidence intervals, for all rows and for slices of them. Pure arithmetic."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.rollouts.turns import Trajectory

__all__ = ["Mean", "ScoredRow", "breakdowns", "half_width", "mean_interval", "slicings"]

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """Contains a mean over rows with its 95 % confidence interval."""

    mean: float
    low: float | None
    """None, as `high` is, where one value says nothing about how far values spread."""
    high: float | None
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRow:
    """Contains one evaluated example: its columns, the completions, and each reward's mean over them (None: not
    scored).
    """

    key: str
    """The key of the row, which no other row has; it pairs the rows of two models (``Example.key``)."""
    example_id: str
    source: str
    num_images: int
    columns: Mapping[str, Any]
    completions: tuple[str, ...]
    scores: Mapping[str, float | None]
    num_tokens: int = 0
    """Prompt and completion tokens of all its completions, the prompt counted once for each."""
    answer_image: int | None = None
    """Which image, from 1, the expected answer names; None where it names none or several."""
    trajectories: tuple[Trajectory, ...] = ()
    """The turns of each completion; empty without tools."""


def mean_interval(values: Sequence[float]) -> Mean | None:
    """Return the mean and its interval, or None for no values.

    Shares (every value 0 or 1) get Wilson's score interval, which stays within [0, 1] and says something at 0 and 1
    (Wilson 1927); other values Student's interval of the mean.
    """
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if all(value in (0.0, 1.0) for value in values):
        z2 = NORMAL_95**2
        centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
        half = NORMAL_95 / (1 + z2 / n) * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
        return Mean(mean=mean, low=max(0.0, centre - half), high=min(1.0, centre + half), num_rows=n)
    spread = half_width(values, mean=mean)
    low, high = (None, None) if spread is None else (mean - spread, mean + spread)
    return Mean(mean=mean, low=low, high=high, num_rows=n)


def half_width(values: Sequence[float], *, mean: float) -> float | None:
    """Return half of the 95 % confidence interval of a mean by Student's t with n - 1 degrees of freedom, or None for
    one value.

    With few values it is much wider than the normal one (2.2 times with three values), and contains the true mean as
    often as it says.
    """
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # here, because it takes long to import

    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)


def slicings(
    rows: Sequence[ScoredRow], *, by: Sequence[str], position: str | None
) -> dict[str, dict[str, list[ScoredRow]]]:
    """Slice the rows and return ``{slicing: {slice: rows}}``, the slices of each slicing in order.

    Slicings are ``all``, ``images`` (how many the prompt contains), every column of ``by``, and ``answer image``: which
    image, counted from 1, the answer is about, as the column ``position`` says or else as the answers themselves do.
    """
    functions: dict[str, Callable[[ScoredRow], Hashable]] = {
        "all": lambda row: "all",
        "images": lambda row: row.num_images,
        **{name: _column(name) for name in by},
    }
    if position is not None:
        functions["answer image"] = _column(position)
    elif any(row.answer_image is not None for row in rows):
        functions["answer image"] = lambda row: row.answer_image or "(not named)"
    return {name: _sliced(rows, of) for name, of in functions.items()}


def breakdowns(
    rows: Sequence[ScoredRow], *, by: Sequence[str], position: str | None
) -> dict[str, dict[str, dict[str, Mean | None]]]:
    """Return ``{slicing: {slice: {reward: mean}}}``."""
    return {
        slicing: {key: _means(members) for key, members in slices.items()}
        for slicing, slices in slicings(rows, by=by, position=position).items()
    }


def _column(name: str) -> Callable[[ScoredRow], Hashable]:
    def value(row: ScoredRow) -> Hashable:
        found = row.columns.get(name)
        found = int(found) if isinstance(found, float) and found.is_integer() else found
        return found if isinstance(found, (str, int)) else str(found) if found is not None else "(none)"

    return value


def _sliced(rows: Sequence[ScoredRow], of: Callable[[ScoredRow], Hashable]) -> dict[str, list[ScoredRow]]:
    slices: dict[Hashable, list[ScoredRow]] = {}
    for row in rows:
        slices.setdefault(of(row), []).append(row)
    return {str(key): slices[key] for key in sorted(slices, key=_order)}


def _means(rows: Sequence[ScoredRow]) -> dict[str, Mean | None]:
    names = list(rows[0].scores) if rows else []
    return {name: mean_interval([score for row in rows if (score := row.scores[name]) is not None]) for name in names}


def _order(key: Hashable) -> tuple[int, float, str]:
    text = str(key)
    return (0, float(text), "") if text.lstrip("-").isdigit() else (1, 0.0, text)
