"""Intervals against published values, slices against counting by hand."""

import math
import random

import pytest
from triptych_trainer.evaluation.scores import ScoredRow, breakdowns, mean_interval


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(15, 50, 0.19103, 0.43750), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0)],
)
def test_shares_get_wilsons_interval(right, total, low, high):
    found = mean_interval([1.0] * right + [0.0] * (total - right))
    assert (found.mean, found.num_rows) == (right / total, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-5)


def test_other_values_get_students_interval():
    values = [0.1, 0.5, 0.9, 0.3]
    found = mean_interval(values)
    error = math.sqrt(sum((v - 0.45) ** 2 for v in values) / 3 / 4)
    quantile = 3.182446  # of t with 3 degrees of freedom, as tables have it
    assert (found.low, found.high) == pytest.approx((0.45 - quantile * error, 0.45 + quantile * error), abs=1e-5)


def test_nineteen_of_twenty_intervals_of_few_values_hold_the_true_mean():
    chance, held = random.Random(0), 0
    for _ in range(2000):
        found = mean_interval([chance.gauss(0.4, 0.2) for _ in range(3)])
        held += found.low <= 0.4 <= found.high
    assert 0.94 < held / 2000 < 0.96, "the normal interval holds it in 81 of 100 cases"


def test_one_value_has_no_interval_unless_it_is_a_share():
    found = mean_interval([0.4])
    assert (found.mean, found.low, found.high) == (0.4, None, None)
    assert mean_interval([1.0]).low == pytest.approx(0.20654, abs=1e-5)


def test_no_values_have_no_mean():
    assert mean_interval([]) is None


def row(k, *, images, family, about, score):
    return ScoredRow(
        key=f"t:{k}",
        example_id=str(k),
        source=f"f:{k}",
        num_images=images,
        columns={"family": family, "about": about},
        completions=("x",),
        scores={"accuracy": score},
    )


def test_rows_are_sliced_by_images_columns_and_position():
    rows = [
        row(0, images=2, family="a", about=1, score=1.0),
        row(1, images=2, family="b", about=2, score=0.0),
        row(2, images=10, family="a", about=2, score=1.0),
        row(3, images=10, family="a", about=None, score=None),
    ]
    found = breakdowns(rows, by=["family"], position="about")
    means = {s: {key: cell["accuracy"] and cell["accuracy"].mean for key, cell in found[s].items()} for s in found}
    assert means == {
        "all": {"all": pytest.approx(2 / 3)},
        "images": {"2": 0.5, "10": 1.0},
        "family": {"a": 1.0, "b": 0.0},
        "answer image": {"1": 1.0, "2": 0.5, "(none)": None},
    }
    assert list(found["images"]) == ["2", "10"], "numbers are ordered as numbers"
