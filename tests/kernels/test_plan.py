from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from triptych_kernels import MergePlan


def test_known_answer() -> None:
    places = [(0, 0, [(1, 2)]), (1, 0, [(0, 2)]), (1, 1, [(4, 1)])]
    plan = MergePlan.from_images((2, 6), places, features_per_image=[2, 1])
    assert plan.src.tolist() == [[-1, 0, 1, -1, -1, -1], [0, 1, -1, -1, 2, -1]]
    assert plan.offsets.tolist() == [0, 2, 4, 5]
    assert plan.positions.tolist() == [1, 6, 2, 7, 10]
    assert (plan.num_features, plan.num_slots) == (3, 5)


def test_an_image_in_several_runs() -> None:
    places = [(0, 1, [(0, 2)]), (1, 0, [(1, 1), (3, 2)]), (1, 1, [(6, 2)])]
    plan = MergePlan.from_images((2, 8), places, features_per_image=[3, 2])
    assert plan.src.tolist() == [[3, 4, -1, -1, -1, -1, -1, -1], [-1, 0, -1, 1, 2, -1, 3, 4]]


def test_tokens_and_feature_rows_of_one_image_differ() -> None:
    places = [(3, 0, [(0, 374)]), (3, 1, [(400, 391)], "image marker 2")]
    message = "^row 3, image marker 2: 391 placeholder tokens, but its image has 374 feature rows; the prompt was"
    with pytest.raises(ValueError, match=message):
        MergePlan.from_images((4, 1024), places, features_per_image=[374, 374])


def test_counts_that_match_in_total_only_are_refused() -> None:
    """Row 0 has one token too few, row 1 one too many: a check of totals passes, and an image goes to a wrong row."""
    with pytest.raises(ValueError, match="^row 0, image 0: 3 placeholder tokens, but its image has 4 feature rows"):
        MergePlan.from_images((2, 8), [(0, 0, [(0, 3)]), (1, 1, [(0, 5)])], features_per_image=[4, 4])


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(2, 0, [(0, 3)])], "row 2, image 0: tokens 0 to 2 are not in a batch of 2 rows of 6 tokens; the row was cut"),
        ([(0, 0, [(4, 3)])], "row 0, image 0: tokens 4 to 6 are not"),
        ([(-1, 0, [(0, 3)])], "row -1, image 0: tokens"),
        ([(0, 0, [(-1, 3)])], "tokens -1 to 1 are not"),
        ([(0, 0, [(0, 3), (5, 0)])], "tokens 5 to 4 are not"),
        ([(0, 0, [(0, 4), (5, -1)])], "tokens 5 to 3 are not"),
        ([(0, 2, [(0, 3)])], "row 0, image 2: expected an image from 0 to 1, got image 2"),
        ([(0, -1, [(0, 3)], "the first")], "row 0, the first: expected an image from 0 to 1, got image -1"),
        (
            [(1, 0, [(0, 3)], "before"), (1, 1, [(2, 1)], "after")],
            "row 1, after: its tokens 2 to 2 overlap tokens 0 to 2 of row 1, before; every token takes at most one",
        ),
        ([(0, 0, [(0, 3)]), (1, 0, [(0, 3)])], "image 1 of 2 has 1 feature rows but no place in the batch; give it"),
    ],
)
def test_a_bad_place_is_named(places: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MergePlan.from_images((2, 6), places, features_per_image=[3, 1])


def test_sizes_outside_int32_are_refused() -> None:
    with pytest.raises(ValueError, match="a plan counts up to 2147483647, got 4294967296 positions and 0 feature rows"):
        MergePlan.from_images((2**16, 2**16), [], features_per_image=[])


def test_moving_to_the_same_device_is_free() -> None:
    plan = MergePlan.from_images((1, 4), [(0, 0, [(1, 2)])], features_per_image=[2])
    assert plan.to("cpu") is plan
    assert plan.to("meta").index.device == torch.device("meta")


@given(data=st.data())
def test_positions_are_the_slots_grouped_by_feature(plan_of_src: Callable[..., MergePlan], data: st.DataObject) -> None:
    num_features = data.draw(st.integers(0, 9))
    free = data.draw(st.lists(st.integers(-1, num_features - 1), max_size=60))
    src = [*free, *(feature for feature in range(num_features) if feature not in free)]
    plan = plan_of_src(src, num_features=num_features)
    assert plan.src.tolist() == [src]
    assert plan.num_slots == sum(feature >= 0 for feature in src)
    offsets, positions = plan.offsets.tolist(), plan.positions.tolist()
    grouped = [positions[offsets[n] : offsets[n + 1]] for n in range(num_features)]
    assert grouped == [[t for t, feature in enumerate(src) if feature == n] for n in range(num_features)]
    assert offsets[-1] == plan.num_slots
