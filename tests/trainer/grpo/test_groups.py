"""Which rows form a group, in which order groups are shuffled, and where they may not be split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.grpo.groups import GroupSplitError, RowGroups, check_groups_on_ranks, group_order, split_batch


def test_rows_of_a_prompt_form_a_group():
    groups = RowGroups.of([7, 7, 3, 3, 3, 7])
    assert groups.keys == (7, 3)
    assert groups.members == ((0, 1, 5), (2, 3, 4))
    assert groups.row_of_result == [0, 1, 5, 2, 3, 4]


def test_results_return_to_their_rows():
    groups = RowGroups.of([7, 3, 7])
    results = torch.tensor([[1.0, 1.5], [2.0, 2.5], [3.0, 3.5]])  # prompt-major: rows 0, 2, 1
    expected = [[1.0, 1.5, 0.0], [3.0, 3.5, 0.0], [2.0, 2.5, 0.0]]
    assert groups.to_rows(results, width=3).tolist() == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_groups_stay_whole_under_any_permutation(keys, rng):
    permutation = list(range(len(keys)))
    rng.shuffle(permutation)
    order = group_order(keys, permutation)
    assert sorted(order) == list(range(len(keys)))
    shuffled = [keys[row] for row in order]
    runs = sum(1 for left, right in zip([None, *shuffled], shuffled, strict=False) if left != right)
    assert runs == len(set(keys)), "each key stands in one run"
    assert shuffled[0] == keys[permutation[0]]


def test_split_keeps_scalars_whole_and_lists_beside_tensors():
    batch = {"a": torch.arange(4), "b": ["p", "q", "r", "s"], "total": torch.tensor(9), "none": None}
    first, second = split_batch(batch, order=[2, 3, 0, 1], num_chunks=2)
    assert (first["a"].tolist(), first["b"]) == ([2, 3], ["r", "s"])
    assert (second["a"].tolist(), second["b"]) == ([0, 1], ["p", "q"])
    assert first["total"] == second["total"] == 9
    assert first["none"] is None


def test_groups_over_ranks_are_refused_with_the_arithmetic():
    check_groups_on_ranks(per_device=2, steps_per_generation=4, num_generations=8, num_ranks=4)
    check_groups_on_ranks(per_device=3, steps_per_generation=1, num_generations=8, num_ranks=1)
    with pytest.raises(GroupSplitError, match=r"4 ranks .* 2 x steps_per_generation 3 = 6 .* make the product 8"):
        check_groups_on_ranks(per_device=2, steps_per_generation=3, num_generations=8, num_ranks=4)
