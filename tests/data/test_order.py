"""Order: a bijection for every length, the same on every machine and in every version."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_data.order import Order, permuted, quotas


def test_every_length_up_to_300_and_some_large_ones_are_permuted_without_loss():
    for length in (*range(1, 301), 1003, 4096, 4097, 20_000):
        seen = [permuted(position, length=length, seed=7, epoch=1) for position in range(length)]
        assert sorted(seen) == list(range(length)), length


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.integers(0, 2**63), st.integers(0, 50))
def test_any_seed_and_epoch_give_a_permutation(length, seed, epoch):
    assert len({permuted(position, length=length, seed=seed, epoch=epoch) for position in range(length)}) == length


def test_the_sequence_has_not_changed():
    """Golden: another list means that resumed runs would see other rows."""
    assert [permuted(position, length=10, seed=0) for position in range(10)] == GOLDEN_10
    assert [permuted(position, length=1_000_000, seed=42, epoch=3) for position in range(5)] == GOLDEN_MILLION
    assert [Order(length=100, seed=1).instead(17, attempt) for attempt in (1, 2, 3)] == GOLDEN_INSTEAD


GOLDEN_10 = [8, 4, 6, 3, 9, 1, 0, 2, 5, 7]
GOLDEN_MILLION = [632716, 128695, 440225, 228780, 109277]
GOLDEN_INSTEAD = [91, 88, 38]


def test_epochs_and_seeds_differ_and_positions_spread():
    length = 5000
    orders = [
        [permuted(position, length=length, seed=seed, epoch=epoch) for position in range(length)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = sum(a == b for a, b in zip(orders[first], orders[second], strict=True))
        assert same < 10  # one is expected by chance
    for order in orders:  # rank correlation with the file order: below 5 standard errors
        mean = (length - 1) / 2
        correlation = sum((position - mean) * (row - mean) for position, row in enumerate(order)) / (
            length * (length**2 - 1) / 12
        )
        assert abs(correlation) < 5 / length**0.5


def test_the_endless_sequence_runs_through_every_epoch():
    order = Order(length=7, seed=3)
    for epoch in range(4):
        assert sorted(order(position) for position in range(7 * epoch, 7 * epoch + 7)) == list(range(7))
    assert [Order(length=3, shuffle=False)(position) for position in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_position_out_of_range_says_so():
    with pytest.raises(IndexError, match="expected a position from 0 to 4, got 5"):
        permuted(5, length=5, seed=0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.05, 1)), min_size=1, max_size=5))
def test_quotas_follow_the_weights_and_repeat_nothing(sources):
    lengths, weights = [length for length, _ in sources], [weight for _, weight in sources]
    counts = quotas(lengths, weights)
    assert all(1 <= count <= length for count, length in zip(counts, lengths, strict=True))
    total = sum(counts)
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - weight / sum(weights) * total) <= len(sources) + 1
