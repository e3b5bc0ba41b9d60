"""The step on plain values: what is sampled, scored, compared and counted, with an engine that only counts."""

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from made_up import prepared
from triptych_data import Example
from triptych_parser import bind, parse
from triptych_trainer.grpo.batch import Rewards, TokenScores
from triptych_trainer.grpo.step import (
    Correction,
    Sampled,
    Sampler,
    Scoring,
    StepSettings,
    collect,
    policy_loss,
    rollout,
    sampling_ratio,
)

END = 2
CPU = torch.device("cpu")


def prompts(*keys):
    return {
        key: prepared(
            Example(id=str(key), prompt=bind(parse("?"), 0), images=(), answer=None, extras={}, source=f"r:{key}")
        )
        for key in keys
    }


def sampler(*, logps=None):
    """Completion k of a prompt has k + 1 tokens; every second one ends."""

    def sample(groups, sizes):
        return [
            [
                Sampled(ids=[group.key] * k + [END if k % 2 else 9], logps=None if logps is None else [logps] * (k + 1))
                for k in range(size)
            ]
            for group, size in zip(groups, sizes, strict=True)
        ]

    return Sampler(
        sample=sample,
        read=lambda prompt, ids: [{"role": "assistant", "content": " ".join(map(str, ids))}],
        end_ids=frozenset([END]),
        policy_version=5,
    )


class CountingEngine:
    """Says -0.1 of every token, and keeps what it was asked for."""

    router_loss = False

    def __init__(self):
        self.asked = []

    def logps(self, model, batch, *, keys, compute_entropy=False, compute_router_loss=False):
        self.asked.append((model, tuple(keys), batch.group_sizes, torch.is_grad_enabled()))
        scores = torch.zeros(batch.num_completions, batch.max_completion_tokens)
        rows = iter(scores)
        for group in batch.completions:
            for ids in group:
                next(rows)[: len(ids)] = -0.1
        return TokenScores(logps_BC=scores, entropies_BC=scores if compute_entropy else None)


def reward_groups(groups, *, of_other_ranks=()):
    """The reward is the number of tokens."""
    flat = [*of_other_ranks, *((group.key, float(len(one.ids))) for group in groups for one in group.rollouts)]
    return Rewards(
        names=("length",),
        scores_BF=torch.tensor([[score] for _, score in flat]),
        keys_B=torch.tensor([key for key, _ in flat]),
        first_row=len(of_other_ranks),
    )


def collected(*, sizes=None, engine=None, settings=None, of_other_ranks=(), **scoring):
    return collect(
        prompts(7, 3),
        num_generations=sizes or {7: 3, 3: 2},
        sampler=sampler(logps=-0.3 if "old" in scoring else None),
        reward_groups=partial(reward_groups, of_other_ranks=of_other_ranks),
        scoring=Scoring(engine=engine or CountingEngine(), **scoring),
        settings=settings or StepSettings(reward_weights=(1.0,), scale_rewards="none", rollouts_per_pass=2),
        sum_over_ranks=lambda count: 3 * count,
        device=CPU,
    )


def test_groups_may_have_any_size_and_say_how_each_rollout_ended():
    first, second = rollout(sampler(), prompts(7, 3), num_generations={7: 3, 3: 1})
    assert [one.ids for one in first.rollouts] == [(9,), (7, END), (7, 7, 9)]
    assert [one.finish for one in first.rollouts] == ["length", "stop", "length"]
    assert first.rollouts[1].messages == ({"role": "assistant", "content": f"7 {END}"},)
    assert (second.key, len(second), second.rollouts[0].policy_version) == (3, 1, 5)
    assert first.rollouts[0].sampling_logps is None


def test_rewards_are_compared_within_each_group():
    experience = collected()
    assert experience.batch.advantages.tolist() == [-1.0, 0.0, 1.0, -0.5, 0.5]
    assert experience.batch.num_trained_tokens == 3 * (1 + 2 + 3 + 1 + 2)
    assert experience.batch.keys == [7, 7, 7, 3, 3]
    scored = experience.scored_groups()
    assert scored[0].rewards == {"length": (1.0, 2.0, 3.0)}
    assert scored[1].advantages == (-0.5, 0.5)


def test_the_advantages_of_a_rank_are_those_of_its_own_rows():
    """The scores of all ranks come back from the rewards; those of the ranks before are no longer in the batch."""
    experience = collected(of_other_ranks=[(11, 4.0), (11, 8.0)])
    assert experience.batch.advantages.tolist() == [-1.0, 0.0, 1.0, -0.5, 0.5]
    assert experience.advantages.values_B.tolist()[:2] == [-2.0, 2.0]


def test_scoring_passes_run_without_gradient_a_few_rollouts_at_a_time():
    engine = CountingEngine()
    old, reference = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    batch = collected(engine=engine, old=lambda: nullcontext(old), reference=lambda: nullcontext(reference)).batch
    pieces = [((7,), (2,)), ((7, 3), (1, 1)), ((3,), (1,))]
    assert engine.asked == [(model, *piece, False) for model in (old, reference) for piece in pieces]
    lengths = [1, 2, 3, 1, 2]
    expected = torch.tensor([[-0.1] * length + [0.0] * (3 - length) for length in lengths])
    torch.testing.assert_close(batch.old_logps_BC, expected)
    torch.testing.assert_close(batch.reference_logps_BC, expected)


def test_truncated_rollouts_count_for_rewards_but_not_for_the_loss():
    settings = StepSettings(reward_weights=(1.0,), scale_rewards="none", rollouts_per_pass=8, mask_truncated=True)
    experience = collected(settings=settings)
    assert [one.num_trained for one in experience.batch.rollouts] == [0, 2, 0, 0, 2]
    assert experience.batch.num_trained_tokens == 3 * 4
    assert experience.batch.advantages.tolist() == [-1.0, 0.0, 1.0, -0.5, 0.5]
    assert [one.num_trained for group in experience.groups for one in group.rollouts] == [1, 2, 3, 1, 2]


def test_the_policy_pass_has_a_gradient_and_hands_its_scores_to_the_loss():
    engine, model, batch = CountingEngine(), torch.nn.Linear(1, 1), collected().batch
    told = []

    def loss(scores, given):
        told.append((scores, given))
        return scores.logps_BC.sum()

    assert policy_loss(engine, model, batch.rows([4, 0]), loss=loss) == pytest.approx(-0.3)
    ((scores, given),) = told
    assert engine.asked == [(model, (3, 7), (1, 1), True)]
    assert scores.logps_BC.shape == scores.entropies_BC.shape == (2, 2)
    assert given.keys == [3, 7]


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (Correction(mode="token_truncate", clip_min=None, clip_max=1.1), [[1.1, 1.0], [1.1, 1.1]]),
        (Correction(mode="token_truncate", clip_min=1.3, clip_max=None), [[1.3, 1.3], [1.3, 1.3]]),
        (Correction(mode="token_mask", clip_min=1.1, clip_max=1.2), [[0.0, 0.0], [0.0, 0.0]]),
        (Correction(mode="token_mask", clip_min=None, clip_max=None), [[1.2214, 1.0], [1.2214, 1.2214]]),
        (Correction(mode="sequence_truncate", clip_min=None, clip_max=1.3), [[1.2214], [1.3]]),
        (Correction(mode="sequence_mask", clip_min=None, clip_max=1.3), [[1.2214], [0.0]]),
        (Correction(mode="sequence_mean_truncate", clip_min=None, clip_max=None), [[1.2214], [1.2214]]),
    ],
    ids=str,
)
def test_ratios_of_the_trainer_to_the_engine(correction, expected):
    batch = collected(old=lambda: nullcontext(torch.nn.Linear(1, 1))).batch.rows([0, 1])
    torch.testing.assert_close(sampling_ratio(batch, correction), torch.tensor(expected), atol=1e-4, rtol=0)


def test_a_token_that_the_engine_did_not_score_is_not_corrected():
    batch = collected(old=lambda: nullcontext(torch.nn.Linear(1, 1))).batch.rows([1])
    (group,) = batch.groups
    unknown = replace(group.rollouts[0], sampling_logps=(math.nan, -0.3))
    batch = replace(batch, groups=(group.with_rollouts([unknown]),))
    ratio = sampling_ratio(batch, Correction(mode="token_truncate", clip_max=None))
    torch.testing.assert_close(ratio, torch.tensor([[1.0, math.exp(0.2)]]))


@pytest.mark.parametrize(("mode", "expected"), [("token_truncate", [1.0, 1.2214]), ("sequence_truncate", [1.2214])])
def test_a_token_of_a_tool_is_not_corrected(mode, expected):
    """The engine never sampled it, and may have said anything of it."""
    batch = collected(old=lambda: nullcontext(torch.nn.Linear(1, 1))).batch.rows([1])
    (group,) = batch.groups
    of_tool = replace(group.rollouts[0], trained=(False, True), sampling_logps=(-7.0, -0.3))
    ratio = sampling_ratio(
        replace(batch, groups=(group.with_rollouts([of_tool]),)), Correction(mode=mode, clip_max=None)
    )
    torch.testing.assert_close(ratio, torch.tensor([expected]), atol=1e-4, rtol=0)
