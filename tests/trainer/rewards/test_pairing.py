from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.rewards.boxes import Box, iou, matched_ious, num_matches
from triptych_trainer.rewards.pairing import best_pairs

coordinates = st.integers(0, 12)
boxes = st.builds(
    lambda a, b, c, d: Box(x1=min(a, c), y1=min(b, d), x2=max(a, c) + 1, y2=max(b, d) + 1), *[coordinates] * 4
)


def every_pairing(predicted, expected):
    """The overlaps of every one-to-one pairing: slow, and plainly all of them."""
    few, many = sorted((predicted, expected), key=len)
    return [[iou(a, b) for a, b in zip(few, chosen, strict=True)] for chosen in permutations(many, len(few))]


@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_no_other_pairing_is_worth_more(predicted, expected):
    pairings = every_pairing(predicted, expected)
    assert abs(sum(matched_ious(predicted, expected)) - max(map(sum, pairings))) < 1e-9
    for threshold in (0.1, 0.5):
        hits = max(sum(overlap >= threshold for overlap in pairing) for pairing in pairings)
        assert num_matches(predicted, expected, threshold=threshold) == hits


def test_the_best_pairing_is_better_than_the_best_pair_first():
    worth = [[0.6, 0.5], [0.5, 0.0]]
    assert best_pairs(worth) == [(0, 1), (1, 0)]


def test_pairs_that_are_worth_nothing_are_left_out():
    assert best_pairs([[0.0, 0.2], [0.0, 0.0]]) == [(0, 1)]
    assert best_pairs([]) == []
    assert best_pairs([[], []]) == []
