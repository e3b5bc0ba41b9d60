"""Groups as the passes take them: joined with their images, cut into pieces, shuffled as units, whole on a rank."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import prepared, said
from triptych_data import Example
from triptych_parser import ImageSpan, bind, parse
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


def arrived(digest, *, start, turn=0, rollout=0, pads=2):
    span = ImageSpan(start=start, length=pads, image=0, runs=((start, pads),))
    inputs = {"pixel_values": torch.zeros(1)}
    return ArrivedImage(digest=digest, span=span, inputs=inputs, turn=turn, owner="zoom", rollout=rollout)


def test_images_of_rollouts_are_placed_once_each_as_far_as_the_loss_counts():
    whole = group(0, "one two three four five", "four", "one two three four")
    first, second, third = whole.rollouts
    first = replace(
        first,
        trained=(True, False, False, False, True),
        images=(arrived("a", start=1, pads=1), arrived("b", start=2, turn=1)),
    )
    third = replace(third, trained=(True, True, False, False), images=(arrived("c", start=2),))
    batch = group_batch([whole.with_rollouts([first, second, third])])
    assert batch.image_keys == ("a", "b"), "an image behind the last sampled token is not looked at"
    assert batch.trained == (((True, False, False, False, True), (True,), (True, True)),)
    names = [[(found.image, found.span.start, found.name) for found in row] for row in batch.completion_images[0]]
    assert names == [
        [
            (0, 1, "rows:0: rollout 1, turn 1, image 1 of `zoom`"),
            (1, 2, "rows:0: rollout 1, turn 2, image 1 of `zoom`"),
        ],
        [],
        [],
    ]


def test_equal_images_of_prompts_and_rollouts_are_one_image_of_the_batch():
    seen = [group(key, "one two three") for key in (0, 1)]
    seen = [
        one.with_rollouts(
            [
                replace(
                    one.rollouts[0], trained=(True, False, True), images=(arrived(digest, start=1, rollout=4, pads=1),)
                )
            ]
        )
        for one, digest in zip(seen, ("a", "b"), strict=True)
    ]
    shown = {"pixel_values": torch.zeros(1)}
    prompts = [replace(one.prompt, image_inputs=(shown,), image_digests=("a",)) for one in seen]
    seen = [replace(one, prompt=prompt) for one, prompt in zip(seen, prompts, strict=True)]
    batch = group_batch(seen)
    assert batch.image_keys == ("a", "b")
    assert batch.image_indices == ((0,), (0,))
    assert [group[0][0].image for group in batch.completion_images] == [0, 1]
    assert batch.completion_images[0][0][0].name.startswith("rows:0: rollout 5, turn 1")


def test_images_without_a_digest_are_known_by_their_row():
    shown = {"pixel_values": torch.zeros(1)}
    groups = [
        replace(one, prompt=replace(one.prompt, image_inputs=(shown, shown))) for one in (group(4, "a"), group(9, "a"))
    ]
    batch = group_batch(groups)
    assert batch.image_keys == tuple(f"row {key}, image {k}" for key in (4, 9) for k in range(2))
    assert batch.image_indices == ((0, 1), (2, 3))


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 7))
def test_pieces_hold_every_rollout_once_and_in_order(sizes, number):
    groups = [group(key, *["a"] * size) for key, size in enumerate(sizes)]
    cut = list(pieces(groups, num_pieces=number))
    flat = [(part.key, id(one)) for piece in cut for part in piece for one in part.rollouts]
    assert flat == [(whole.key, id(one)) for whole in groups for one in whole.rollouts]
    assert len(cut) == min(number, sum(sizes)), "ranks with unequal numbers of turns score equally often"
    lengths = [sum(map(len, piece)) for piece in cut] or [0]
    assert max(lengths) - min(lengths) <= 1
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
