"""Advantages of turns and samples of single turns, by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_up import played, prepared
from PIL import Image
from triptych_data import Example
from triptych_parser import bind, parse
from triptych_trainer.grpo.batch import Advantages, Rewards, TokenScores, TrainingBatch, loss_mask
from triptych_trainer.grpo.samples import training_batch
from triptych_trainer.grpo.step import StepSettings
from triptych_trainer.grpo.trl.loss import row_factor
from triptych_trainer.grpo.turns import anchor_states, per_token, returns_of, step_advantages, stepwise
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup

LEFT, RIGHT = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
MOVE = {"name": "move", "arguments": {}}


def move(*pieces):
    return {"said": "go", "calls": [MOVE], "returned": [pieces]}


def with_digests(rollout):
    """Equal colours are equal pixels."""
    pictures = [part["image"] for one in rollout.messages[1:] if one["role"] == "tool" for part in one["content"]]
    images = [
        replace(image, digest=str(picture.getpixel((0, 0))))
        for image, picture in zip(rollout.images, pictures, strict=True)
    ]
    return replace(rollout, images=tuple(images))


def group_of(*rollouts, key=0):
    example = Example(id="g", prompt=bind(parse("?"), 0), images=(), answer=None, extras={}, source="g:1")
    return RolloutGroup(key=key, prompt=prepared(example), rollouts=rollouts)


@pytest.fixture
def group():
    """Rollout 1 goes left and ends; 2 goes left twice and ends; 3 goes right and ends. An end is worth what it says."""
    end = {"said": "end"}
    return group_of(
        with_digests(played(move(LEFT), end, turn_rewards=[0.0, 1.0])),
        with_digests(played(move(LEFT), move(LEFT), end, turn_rewards=[0.0, 0.0, 0.5])),
        with_digests(played(move(RIGHT), end, turn_rewards=[-0.5, 0.0])),
    )


def test_returns_are_discounted_and_what_the_total_holds_beyond_counts_last(group):
    first, second, third = group.rollouts
    assert returns_of(first, 1.0, gamma=0.5) == [0.5, 1.0]
    assert returns_of(second, 2.5, gamma=0.5) == [0.625, 1.25, 2.5], "a reward function added 2 to the last turn"
    assert returns_of(third, -0.5, gamma=0.5) == [-0.5, 0.0]
    assert sum(returns_of(second, 2.5, gamma=1.0)) == 7.5
    silent = played(move(LEFT), {"said": "end"})
    assert returns_of(silent, 0.8, gamma=0.5) == [0.4, 0.8]


def test_turns_that_began_with_the_same_pixels_are_compared(group):
    states = [anchor_states(group, one) for one in group.rollouts]
    assert states[0][0] == states[1][0] == states[2][0] == "prompt"
    assert states[0][1] == states[1][1] == states[1][2] != states[2][1]
    told = group_of(played(move("north"), {"said": "end"}), played(move("north"), {"said": "end"}))
    assert anchor_states(told, told.rollouts[0])[1] == anchor_states(told, told.rollouts[1])[1]


def test_a_turn_that_came_back_to_what_the_environment_showed_first_is_compared_with_first_turns(group):
    start = replace(group.prompt, image_digests=("of the row", str(LEFT.getpixel((0, 0)))))
    shown = replace(group, prompt=start, observation=("Go .", LEFT))
    states = [anchor_states(shown, one) for one in shown.rollouts]
    assert states[0][0] == states[0][1] == states[1][2] != states[2][1]
    told = replace(group_of(played(move("north", "cold"), {"said": "end"})), observation=("north", "cold"))
    first, second = anchor_states(told, told.rollouts[0])
    assert first == second, "the same texts, where no image was shown"


def test_the_step_advantage_by_hand(group):
    found = step_advantages(group, [1.0, 0.5, -0.5], gamma=0.5, scale="none")
    first = [0.5, 0.125, -0.5]
    left = [1.0, 0.25, 0.5]
    mean_first, mean_left = sum(first) / 3, sum(left) / 3
    assert found[0] == pytest.approx((0.5 - mean_first, 1.0 - mean_left))
    assert found[1] == pytest.approx((0.125 - mean_first, 0.25 - mean_left, 0.5 - mean_left))
    assert found[2] == pytest.approx((-0.5 - mean_first, 0.0)), "nobody else was on the right"
    std = torch.tensor(left).std().item() + 1e-4
    scaled = step_advantages(group, [1.0, 0.5, -0.5], gamma=0.5, scale="group")
    assert scaled[1][2] == pytest.approx((0.5 - mean_left) / std, abs=1e-6)
    without = step_advantages(group, [1.0, float("nan"), -0.5], gamma=0.5, scale="none")
    assert without[1] == (0.0, 0.0, 0.0), "what nobody scored is compared with nothing"
    assert without[0] == pytest.approx((0.5, 0.0))


def test_tokens_have_the_advantages_of_their_rollout_and_their_turn(group):
    values = torch.tensor([1.0, 2.0, 3.0])
    found = per_token([group], values, [(0.1, 0.2), (0.3, 0.4, 0.5), (0.0, 0.0)], weight=2.0)
    assert found.shape == (3, 17)
    torch.testing.assert_close(found[0, :10], torch.tensor([1.2] * 3 + [1.0] * 4 + [1.4] * 3))
    torch.testing.assert_close(found[1, 7:10], torch.tensor([2.8] * 3))


def in_steps(rollout, number):
    """The turns of a rollout as samples of their own, each behind all that came before."""
    steps = [
        Rollout(
            ids=rollout.ids[:stop],
            trained=tuple(start <= k < stop for k in range(stop)),
            messages=(),
            finish="stop",
            trajectory=number,
        )
        for start, stop in rollout.sampled_runs
    ]
    return replace(rollout, steps=tuple(steps))


def batch_of(groups, totals, **settings):
    settings = StepSettings(reward_weights=(1.0,), scale_rewards="none", rollouts_per_pass=2, **settings)
    rewards = Rewards(
        names=("r",),
        scores_BF=torch.tensor(totals)[:, None],
        keys_B=torch.tensor([group.key for group in groups for _ in group.rollouts]),
    )
    values = torch.tensor([float(k) for k in range(len(totals))])
    gains = Advantages(values_B=values, without_spread_B=values == 9)
    return training_batch(groups, rewards, gains, settings=settings, sum_over_ranks=torch.tensor)


def test_each_turn_is_a_row_with_its_own_advantage(group):
    group = group.with_rollouts([in_steps(one, k) for k, one in enumerate(group.rollouts)])
    batch = batch_of([group], [1.0, 0.5, -0.5])
    assert batch.advantages.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    assert [one.trajectory for one in batch.rollouts] == [0, 0, 1, 1, 1, 2, 2]
    assert batch.num_trained_tokens == 7 * 3
    gigpo = batch_of([group], [1.0, 0.5, -0.5], step_weight=2.0, step_gamma=0.5)
    steps = step_advantages(group, [1.0, 0.5, -0.5], gamma=0.5, scale="none")
    expected = [k + 2.0 * gain for k, turns in enumerate(steps) for gain in turns]
    assert gigpo.advantages.tolist() == pytest.approx(expected)
    whole, values = stepwise([group_of(played({"said": "x"}))], torch.tensor([4.0]), runs=[((0, 3),)])
    assert (len(whole[0].rollouts), values.tolist()) == (1, [4.0])


def test_parts_of_a_batch_hold_whole_rollouts(group):
    group = group.with_rollouts([in_steps(one, k) for k, one in enumerate(group.rollouts)])
    other = group_of(*[in_steps(played({"said": "x"}), k) for k in range(3)], key=5)
    batch = batch_of([group, other], [0.0] * 6)
    parts = batch.split(range(10), num_parts=3)
    assert [[(g.key, one.trajectory) for g in part.groups for one in g.rollouts] for part in parts] == [
        [(0, 0), (0, 0), (0, 1), (0, 1), (0, 1)],
        [(0, 2), (0, 2), (5, 0)],
        [(5, 1), (5, 2)],
    ]


def test_over_turn_rollouts_are_zeroed_and_the_loss_is_divided_by_what_remains():
    kept, over = played({"said": "x"}), played(move("a"), {"said": "y"}, finish="turns")
    cut, room = played({"said": "x"}, finish="length"), played({"said": "x"}, finish="room")
    batch = batch_of([group_of(kept, over, cut, room)], [0.0] * 4, mask_over_turn=True)
    assert [one.num_trained for one in batch.rollouts] == [3, 0, 0, 0]
    assert batch.advantages.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert batch_of([group_of(over, kept)], [0.0] * 2, mask_over_turn=True).advantages.tolist() == [0.0, 1.0]
    assert (batch.mean_rows, batch.num_trained_tokens) == (1, 3)
    assert row_factor(batch, loss_type="grpo") == 4.0
    assert row_factor(batch, loss_type="dapo") is None, "divided by counted tokens already"
    none_left = batch_of([group_of(over)], [0.0], mask_over_turn=True)
    assert row_factor(none_left, loss_type="grpo") == 0.0
    truncated = batch_of([group_of(kept, over, cut, room)], [0.0] * 4, mask_truncated=True)
    assert [one.num_trained for one in truncated.rollouts] == [3, 6, 0, 0]
    assert truncated.mean_rows is None
    assert row_factor(truncated, loss_type="grpo") is None


def parts_by_hand(batch, loss_type):
    """The loss where every ratio is 1: minus the advantages, over what the loss type divides by."""
    rows = []
    for one, gain in zip(batch.rollouts, batch.advantages, strict=True):
        if one.num_trained:
            counted = torch.tensor(one.trained)
            gains = gain[: len(one.ids)][counted] if gain.ndim else gain.expand(one.num_trained)
            rows.append(gains)
    if loss_type == "grpo":
        return -sum(float(gains.mean()) for gains in rows) / len(rows)
    return -sum(float(gains.sum()) for gains in rows) / (
        16 * len(rows) if loss_type == "dr_grpo" else sum(map(len, rows))
    )


@pytest.mark.parametrize("in_turns", [False, True])
def test_the_loss_of_any_parts_is_that_of_what_remains_of_all(make_trainer, write_rows, in_turns):
    go, end = move("a"), {"said": "end"}
    groups = [
        group_of(played(go, end), played(go, go, go, end, finish="turns"), played(end), played(go, finish="length")),
        group_of(played(end), played(go, end), played(go, {"said": "e"}), played(go, go, go, end), key=5),
    ]
    if in_turns:
        groups = [g.with_rollouts([in_steps(one, k) for k, one in enumerate(g.rollouts)]) for g in groups]
    trainer = make_trainer(write_rows([1]), max_completion_length=16, entropy_coef=0.5)
    trainer.model.train()
    for settings in ({}, {"mask_over_turn": True}, {"mask_over_turn": True, "step_weight": 2.0, "step_gamma": 0.5}):
        batch = batch_of(groups, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5], **settings)
        for num_parts in (1, 2, 4):
            parts = batch.split(range(len(batch.rollouts)), num_parts=num_parts)
            trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = num_parts
            for trainer.loss_type in ("grpo", "dr_grpo", "dapo", *(["bnpo"] if num_parts == 1 else [])):
                got, bonus = 0.0, 0.0
                for part in parts:
                    mask = loss_mask(part.rollouts, width=part.width, device=torch.device("cpu"))
                    scores = TokenScores(logps_BC=-torch.rand(mask.shape) * mask, entropies_BC=torch.rand(mask.shape))
                    got += float(trainer._loss_of_trl(scores, part))
                    bonus += float((scores.entropies_BC * mask).sum() / mask.sum().clamp(min=1)) / num_parts
                expected = parts_by_hand(batch, trainer.loss_type) - 0.5 * bonus
                assert got == pytest.approx(expected, abs=1e-5), (settings, num_parts, trainer.loss_type)


def test_batches_of_steps_are_kept_in_checkpoints(group):
    group = group.with_rollouts([in_steps(one, k) for k, one in enumerate(group.rollouts)])
    batch = batch_of([group], [1.0, 0.5, -0.5], mask_over_turn=True)
    again = TrainingBatch.from_state(
        batch.to_state(), begin=lambda key, shown: group_of(key=key), device=torch.device("cpu")
    )
    assert [(one.ids, one.trained, one.trajectory) for one in again.rollouts] == [
        (one.ids, one.trained, one.trajectory) for one in batch.rollouts
    ]
    assert again.mean_rows == 7.0
    assert SimpleNamespace(**batch.to_state()).advantages is batch.advantages
