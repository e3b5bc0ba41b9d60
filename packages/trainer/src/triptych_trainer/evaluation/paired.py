"""Did training help? The difference of two models on the same rows, with its interval. Pure arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from triptych_trainer.evaluation.scores import NORMAL_95, ScoredRow, half_width, slicings

__all__ = ["PairedDifference", "differences", "paired_interval"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """Contains the mean of model minus base over rows that both answered, with its 95 % confidence interval."""

    mean: float
    low: float | None
    """None, as `high` is, where one pair says nothing about how far differences spread."""
    high: float | None
    num_rows: int
    improved: int
    """Rows on which the model scored more than the base."""
    regressed: int
    """Rows on which it scored less."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: chance alone would rarely give this difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_interval(pairs: Sequence[tuple[float, float]]) -> PairedDifference | None:
    """Return the difference over (model, base) pairs of one row each, or None for no pairs.

    Looking at rows in pairs takes out how hard each row is, so that far fewer rows show a difference than two separate
    intervals would need. Shares (every value 0 or 1) get the adjusted Wald interval of Agresti and Min (2005), half an
    observation added to each of the four outcomes, which says something where no row changed; other values Student's
    interval of the mean difference.
    """
    n = len(pairs)
    if not n:
        return None
    gaps = [model - base for model, base in pairs]
    mean = math.fsum(gaps) / n
    improved, regressed = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    low: float | None
    high: float | None
    if all(value in (0.0, 1.0) for pair in pairs for value in pair):
        more = n + 2
        centre = (improved - regressed) / more
        half = NORMAL_95 * math.sqrt(((improved + regressed + 1) / more - centre**2) / more)
        low, high = max(-1.0, centre - half), min(1.0, centre + half)
    else:
        spread = half_width(gaps, mean=mean)
        low, high = (None, None) if spread is None else (mean - spread, mean + spread)
    return PairedDifference(mean=mean, low=low, high=high, num_rows=n, improved=improved, regressed=regressed)


def differences(
    rows: Sequence[ScoredRow], base: Sequence[ScoredRow], *, by: Sequence[str], position: str | None
) -> dict[str, dict[str, dict[str, PairedDifference | None]]]:
    """Return ``{slicing: {slice: {reward: difference}}}``, rows of the two models matched by their keys."""
    beside = {row.key: row for row in base}

    def of(members: Sequence[ScoredRow], reward: str) -> PairedDifference | None:
        pairs = [
            (score, other)
            for row in members
            if (match := beside.get(row.key)) is not None
            and (score := row.scores[reward]) is not None
            and (other := match.scores.get(reward)) is not None
        ]
        return paired_interval(pairs)

    names = list(rows[0].scores) if rows else []
    return {
        slicing: {key: {name: of(members, name) for name in names} for key, members in slices.items()}
        for slicing, slices in slicings(rows, by=by, position=position).items()
    }
