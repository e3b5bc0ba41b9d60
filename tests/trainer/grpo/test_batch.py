"""Training batches: cut by rows with all their tensors, and written to a checkpoint and read back."""

import io
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import prepared, said
from triptych_data import Example
from triptych_parser import bind, parse
from triptych_trainer.grpo.batch import Cycle, Rewards, TokenScores, TrainingBatch, loss_mask, scored_groups
from triptych_trainer.grpo.trl.loss import loss_inputs
from triptych_trainer.rollouts.rollout import RolloutGroup


def prompt_of(key):
    return prepared(
        Example(id=str(key), prompt=bind(parse(f"{key} ?"), 0), images=(), answer=None, extras={}, source="r")
    )


def batch_of(lengths, *, ratio_per="token"):
    """Groups under the keys 10, 11, ... whose rollouts have the given numbers of tokens; entries say row and column."""
    groups = tuple(
        RolloutGroup(
            key=10 + g,
            prompt=prompt_of(10 + g),
            rollouts=tuple(said("", num_tokens=length, first=100 * g + 10 * k) for k, length in enumerate(group)),
        )
        for g, group in enumerate(lengths)
    )
    rows, width = sum(map(len, lengths)), max(length for group in lengths for length in group)
    places = torch.arange(rows)[:, None] * 100.0 + torch.arange(width)
    return TrainingBatch(
        groups=groups,
        advantages=torch.arange(rows) / 10,
        num_trained_tokens=torch.tensor(77),
        old_logps_BC=places,
        reference_logps_BC=-places,
        sampling_ratio=places if ratio_per == "token" else places[:, :1],
    )


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.integers(1, 3),
)
def test_parts_hold_the_rows_with_all_that_belongs_to_them(lengths, rng, num_parts):
    batch = batch_of(lengths)
    order = list(range(len(batch.rollouts)))
    rng.shuffle(order)
    parts = batch.split(order, num_parts=num_parts)
    size = len(order) // num_parts
    assert [len(part.rollouts) for part in parts] == [size] * num_parts
    for part, chosen in zip(parts, [order[k * size : (k + 1) * size] for k in range(num_parts)], strict=True):
        assert part.rollouts == [batch.rollouts[row] for row in chosen]
        assert part.keys == [batch.keys[row] for row in chosen]
        assert all(one.key != other.key for one, other in zip(part.groups, part.groups[1:], strict=False))
        assert part.width == max((len(one.ids) for one in part.rollouts), default=0)
        assert part.advantages.tolist() == [batch.advantages[row] for row in chosen]
        assert part.num_trained_tokens == 77
        for name in ("old_logps_BC", "reference_logps_BC", "sampling_ratio"):
            torch.testing.assert_close(getattr(part, name), getattr(batch, name)[chosen][:, : part.width])


def test_a_ratio_per_rollout_keeps_its_one_column():
    part = batch_of([[3, 2], [1]], ratio_per="rollout").rows([2, 0])
    assert part.sampling_ratio.tolist() == [[200.0], [0.0]]
    assert part.old_logps_BC.shape == (2, 3)


def test_a_cycle_is_read_back_from_plain_values():
    batch = batch_of([[3, 2], [1]])
    cycle = Cycle(keys=(11, 10), parts=batch.split([2, 0], num_parts=2))
    file = io.BytesIO()
    torch.save(cycle.to_state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    asked = []

    def begin(key, shown):
        asked.append(key)
        assert not shown
        return RolloutGroup(key=key, prompt=prompt_of(key))

    again = Cycle.from_state(state, begin=begin, device=torch.device("cpu"))
    assert again.keys == (11, 10)
    assert asked == [11, 10]
    for got, expected in zip(again.parts, cycle.parts, strict=True):
        for one, other in zip(got.rollouts, expected.rollouts, strict=True):
            assert (one.ids, one.trained, one.finish, one.sampling_logps) == (
                other.ids,
                other.trained,
                other.finish,
                other.sampling_logps,
            )
            assert one.messages == ()
        assert got.groups[0].prompt == expected.groups[0].prompt
        torch.testing.assert_close(got.old_logps_BC, expected.old_logps_BC)
        torch.testing.assert_close(got.advantages, expected.advantages)


def test_the_mask_counts_what_is_trained_on():
    rollouts = batch_of([[3, 1]]).rollouts
    assert loss_mask(rollouts, width=3, device=torch.device("cpu")).tolist() == [[True] * 3, [True, False, False]]
    assert loss_mask([], width=0, device=torch.device("cpu")).shape == (0, 0)


def test_scores_of_this_rank_go_to_its_groups():
    groups = batch_of([[1, 1], [1]]).groups
    scores = torch.tensor([[9.0, 9.0], [1.0, float("nan")], [0.0, 2.0], [5.0, 6.0], [9.0, 9.0]], dtype=torch.float64)
    rewards = Rewards(names=("a", "b"), scores_BF=scores, keys_B=torch.tensor([1, 10, 10, 11, 2]), first_row=1)
    first, second = scored_groups(groups, rewards)
    assert first.rewards == {"a": (1.0, 0.0), "b": (None, 2.0)}
    assert second.rewards == {"a": (5.0,), "b": (6.0,)}
    assert first.advantages == (None, None)


def test_a_rollout_whose_lists_differ_in_length_is_refused():
    with pytest.raises(ValueError, match=r"a rollout of 2 tokens needs one entry per token .*'trained': 3"):
        type(said("a"))(ids=(1, 2), trained=(True,) * 3, messages=(), finish="stop")


def test_the_loss_gets_the_log_probabilities_of_an_engine_that_gave_some_of_them():
    batch = batch_of([[2, 1]])
    first, second = batch.rollouts
    (group,) = batch.groups
    told = group.with_rollouts([first, replace(second, sampling_logps=(-0.5,))])
    given = loss_inputs(replace(batch, groups=(told,)), TokenScores(logps_BC=torch.zeros(2, 2)))
    torch.testing.assert_close(
        given["sampling_per_token_logps"], torch.tensor([[torch.nan, torch.nan], [-0.5, 0.0]]), equal_nan=True
    )
    assert "sampling_per_token_logps" not in loss_inputs(batch, TokenScores(logps_BC=torch.zeros(2, 2)))
