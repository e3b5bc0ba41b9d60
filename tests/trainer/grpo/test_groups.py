"""Groups as the passes take them: joined with their images, cut into pieces, shuffled as units, whole on a rank."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import prepared, said
from triptych_data import Example
from triptych_parser import ImageSpan, bind, parse
from triptych_trainer.forward import BatchError
from triptych_trainer.grpo.groups import GroupSplitError, check_groups_on_ranks, group_batch, group_order, pieces
from triptych_trainer.rollouts.rollout import ArrivedImage, RolloutGroup


def group(key, *texts):
    example = Example(id=str(key), prompt=bind(parse("?"), 0), images=(), answer=None, extras={}, source=f"rows:{key}")
    return RolloutGroup(key=key, prompt=prepared(example), rollouts=tuple(said(text) for text in texts))


def test_passes_go_as_far_as_the_loss_counts():
    whole = group(0, "one two three", "four")
    first, second = whole.rollouts
    masked = replace(first, trained=(False,) * 3)
    part = replace(first, trained=(True, True, False))
    batch = group_batch([whole.with_rollouts([first, masked, part, second])])
    assert batch.completions == ((first.ids, (), first.ids[:2], second.ids),)
    assert batch.prompts == ((1, 2, 3, 4, 5),)


def test_images_that_arrive_in_a_rollout_are_refused_with_the_row():
    image = ArrivedImage(
        digest="d", span=ImageSpan(start=0, length=1, image=0, runs=((0, 1),)), inputs={}, turn=0, owner="zoom"
    )
    seen = group(3, "one two")
    with pytest.raises(BatchError, match=r"rows:3: a rollout of this row holds an image that arrived after the prompt"):
        group_batch([seen.with_rollouts([replace(seen.rollouts[0], images=(image,))])])


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 7))
def test_pieces_hold_every_rollout_once_and_in_order(sizes, most):
    groups = [group(key, *["a"] * size) for key, size in enumerate(sizes)]
    cut = list(pieces(groups, num_rollouts=most))
    flat = [(part.key, id(one)) for piece in cut for part in piece for one in part.rollouts]
    assert flat == [(whole.key, id(one)) for whole in groups for one in whole.rollouts]
    assert [sum(map(len, piece)) for piece in cut[:-1]] == [most] * (len(cut) - 1)
    assert all(len(part) > 0 for piece in cut for part in piece)


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
    for key in keys:
        rows = [row for row in order if keys[row] == key]
        assert rows == sorted(rows), "the rows of a group keep their order"


def test_groups_over_ranks_are_refused_with_the_arithmetic():
    check_groups_on_ranks(per_device=2, steps_per_generation=4, num_generations=8, num_ranks=4)
    check_groups_on_ranks(per_device=3, steps_per_generation=1, num_generations=8, num_ranks=1)
    with pytest.raises(GroupSplitError, match=r"4 ranks .* 2 x steps_per_generation 3 = 6 .* make the product 8"):
        check_groups_on_ranks(per_device=2, steps_per_generation=3, num_generations=8, num_ranks=4)
