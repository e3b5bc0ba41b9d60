"""Paired differences: intervals against the formula's source and against brute force, rows matched by name."""

import math
import random

import pytest
from triptych_trainer.evaluation.bars import change_in_words
from triptych_trainer.evaluation.paired import differences, paired_interval
from triptych_trainer.evaluation.scores import ScoredRow


def pairs(improved, regressed, same):
    return [(1.0, 0.0)] * improved + [(0.0, 1.0)] * regressed + [(1.0, 1.0)] * same


def test_shares_get_the_interval_of_agresti_and_min():
    found = paired_interval(pairs(10, 2, 88))
    n, b, c = 102, 10.5 / 102, 2.5 / 102
    half = 1.959964 * math.sqrt((b + c - (b - c) ** 2) / n)
    assert (found.mean, found.num_rows, found.improved, found.regressed) == (pytest.approx(0.08), 100, 10, 2)
    assert (found.low, found.high) == pytest.approx((b - c - half, b - c + half), abs=1e-6)
    assert found.is_clear


def test_no_change_on_few_rows_is_no_certainty():
    found = paired_interval(pairs(0, 0, 10))
    assert found.mean == 0
    assert found.low < -0.1 < 0.1 < found.high
    assert not found.is_clear


def test_other_values_get_students_interval_of_the_difference():
    given = [(0.9, 0.5), (0.4, 0.5), (0.8, 0.3)]
    gaps = [0.4, -0.1, 0.5]
    mean = sum(gaps) / 3
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 2 / 3)
    found = paired_interval(given)
    assert (found.low, found.high) == pytest.approx((mean - 4.302653 * error, mean + 4.302653 * error), abs=1e-5)
    assert (found.improved, found.regressed) == (2, 1)


def test_one_pair_says_nothing_about_others():
    found = paired_interval([(0.9, 0.5)])
    assert (found.low, found.high, found.is_clear) == (None, None, False)
    assert change_in_words(found) == "+0.400 against the base on one row, which says nothing about others"


def test_nineteen_of_twenty_intervals_hold_the_true_difference():
    chance, held = random.Random(0), 0
    for _ in range(2000):
        drawn = chance.choices([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)], weights=[25, 10, 45, 20], k=60)
        found = paired_interval(drawn)
        held += found.low <= 0.15 <= found.high
    assert 0.94 < held / 2000 < 0.97


def row(k, score, *, table="t", images=2):
    return ScoredRow(
        key=f"{table}:{k}",
        example_id="the same for all",
        source="file.json",
        num_images=images,
        columns={},
        completions=("x",),
        scores={"accuracy": score},
    )


def test_rows_are_matched_by_key_and_only_scored_ones_count():
    model = [row(0, 1.0), row(1, 1.0), row(2, None), row(3, 0.0, images=4)]
    base = [row(3, 1.0, images=4), row(2, 1.0), row(1, 0.0), row(0, 1.0, table="another")]
    found = differences(model, base, by=[], position=None)
    assert found["all"]["all"]["accuracy"].num_rows == 2
    assert found["images"]["2"]["accuracy"].mean == 1.0
    assert found["images"]["4"]["accuracy"].mean == -1.0


def test_no_pairs_have_no_difference():
    assert paired_interval([]) is None
