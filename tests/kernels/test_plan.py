import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from triptych_kernels import MergePlan


def test_known_answer() -> None:
    plan = MergePlan.from_spans((2, 6), [(0, 1, 2, 0), (1, 0, 2, 0), (1, 4, 1, 2)], num_features=3)
    assert plan.src.tolist() == [[-1, 0, 1, -1, -1, -1], [0, 1, -1, -1, 2, -1]]
    assert plan.offsets.tolist() == [0, 2, 4, 5]
    assert plan.positions.tolist() == [1, 6, 2, 7, 10]
    assert plan.num_slots == 5


def test_a_packed_plan_and_a_batched_plan_index_alike() -> None:
    runs = [(0, 3, 2, 0), (0, 8, 1, 2)]
    packed = MergePlan.from_spans((10,), runs, num_features=3)
    batched = MergePlan.from_spans((1, 10), runs, num_features=3)
    assert torch.equal(packed.index, batched.index)
    assert packed.src.shape == (10,)
    assert batched.src.shape == (1, 10)


def test_images_become_runs() -> None:
    images = [(0, 1, [(0, 2)]), (1, 0, [(1, 1), (3, 2)]), (1, 1, [(6, 2)])]
    plan = MergePlan.from_images((2, 8), images, features_per_image=[3, 2])
    assert plan.src.tolist() == [[3, 4, -1, -1, -1, -1, -1, -1], [-1, 0, -1, 1, 2, -1, 3, 4]]


def test_slots_and_features_of_one_image_differ() -> None:
    images = [(3, 0, [(0, 374)]), (3, 1, [(400, 391)], "image 2")]
    with pytest.raises(ValueError, match=r"^row 3, image 2: 391 slots, 374 features"):
        MergePlan.from_images((4, 1024), images, features_per_image=[374, 374])


def test_counts_that_match_in_total_only_are_refused() -> None:
    """Row 0 is one slot short and row 1 one over: a check of totals passes, and an image lands in the wrong sample."""
    with pytest.raises(ValueError, match=r"^row 0, image 0: 3 slots, 4 features"):
        MergePlan.from_images((2, 8), [(0, 0, [(0, 3)]), (1, 1, [(0, 5)])], features_per_image=[4, 4])


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([(2, 0, 1, 0)], r"row 2, run 0: slots 0\.\.0 do not lie in a batch of 2 row\(s\) of 6 tokens"),
        ([(0, 4, 3, 0)], r"row 0, run 0: slots 4\.\.6 do not lie"),
        ([(-1, 0, 1, 0)], "row -1, run 0"),
        ([(0, -1, 2, 0)], r"slots -1\.\.0"),
        ([(0, 0, 0, 0)], r"slots 0\.\.-1"),
        ([(0, 0, 3, 1, "before")], r"row 0, before: 3 slots take features 1\.\.3, but there are 3 features"),
        ([(0, 0, 1, -1)], r"features -1\.\.-1"),
        (
            [(0, 0, 1, 0), (1, 0, 3, 0, "before"), (1, 2, 2, 1, "after")],
            r"row 1: after \(slots 2\.\.3\) overlaps before \(slots 0\.\.2\)",
        ),
        ([(0, 0, 1, 0), (1, 0, 1, 2)], r"1 of 3 features are taken by no run, the first is feature 1"),
    ],
)
def test_a_bad_run_is_named(runs: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MergePlan.from_spans((2, 6), runs, num_features=3)


def test_unused_features_can_be_allowed() -> None:
    plan = MergePlan.from_spans((4,), [(0, 1, 1, 2)], num_features=4, allow_unused=True)
    assert plan.offsets.tolist() == [0, 0, 0, 1, 1]


def test_image_number_outside_the_list() -> None:
    with pytest.raises(ValueError, match="row 0, image 2: image 2 does not exist, there are 2"):
        MergePlan.from_images((1, 4), [(0, 2, [(0, 1)])], features_per_image=[1, 1])


@pytest.mark.parametrize("shape", [(), (1, 2, 3)])
def test_shapes_of_other_ranks_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected a shape \(T,\) or \(B, T\)"):
        MergePlan.from_spans(shape, [], num_features=0)


def test_sizes_outside_int32_are_refused() -> None:
    with pytest.raises(ValueError, match="a plan counts to 2147483647, got 4294967296 positions"):
        MergePlan.from_spans((2**16, 2**16), [], num_features=0)
    with pytest.raises(ValueError, match="expected num_features >= 0, got -1"):
        MergePlan.from_spans((4,), [], num_features=-1)


def test_a_bad_src_is_named() -> None:
    with pytest.raises(ValueError, match=r"src at flat position 2 is 5, expected -1 \(text\) or 0\.\.4"):
        MergePlan.from_src(torch.tensor([-1, 4, 5]), num_features=5)


def test_moving_to_the_same_device_is_free() -> None:
    plan = MergePlan.from_spans((4,), [(0, 1, 2, 0)], num_features=2)
    assert plan.to("cpu") is plan


@given(st.data())
def test_positions_are_the_slots_grouped_by_feature(data: st.DataObject) -> None:
    num_features = data.draw(st.integers(0, 9))
    src = data.draw(st.lists(st.integers(-1, num_features - 1), max_size=60))
    plan = MergePlan.from_src(torch.tensor(src, dtype=torch.int64), num_features=num_features)
    assert plan.src.tolist() == src
    assert plan.num_slots == sum(feature >= 0 for feature in src)
    offsets, positions = plan.offsets.tolist(), plan.positions.tolist()
    grouped = [positions[offsets[n] : offsets[n + 1]] for n in range(num_features)]
    assert grouped == [[t for t, feature in enumerate(src) if feature == n] for n in range(num_features)]
    assert offsets[-1] == plan.num_slots
