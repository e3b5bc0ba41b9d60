"""Rollouts of several turns by vLLM: what it is asked for each turn, and what comes back to the loss.

The stand-in expands what it gets, and the trainer compares that with what it trains on.
"""

import json
import math

import pytest
from sampled import sample
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.mismatch import measured
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.turn_options import TurnOptions

MODES = ["colocate", "server"]
CALL = f"<tool_call>{json.dumps({'name': 'look', 'arguments': {'image': 1}})}</tool_call>"


def look(image: int, images: RolloutImages) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """
    return [{"type": "image", "image": images[image].picture.resize((84, 84))}]


def looks_twice(trainer):
    """What a model says that looks closer two times, and then says what it saw."""
    tokenizer = trainer._tokenizer

    def answer(prompt, index):
        said = tokenizer.decode(prompt, skip_special_tokens=False).count(CALL)
        return [*tokenizer(CALL if said < 2 else "red")["input_ids"], tokenizer.eos_token_id]

    return answer


@pytest.fixture
def looking(vllm_trainer, write_rows):
    """Build a trainer with a tool, whose engine calls it twice in each rollout."""

    def build(mode, **options):
        trainer = vllm_trainer(
            write_rows([0, 2]),
            mode=mode,
            tools=[look],
            per_device_train_batch_size=4,
            max_completion_length=900,
            vllm_importance_sampling_mode="token_truncate",
            **options,
        )
        trainer.vllm_generation.answer = looks_twice(trainer)
        trainer._to_verify = False
        return trainer

    return build


@pytest.mark.parametrize("mode", MODES)
def test_each_turn_goes_on_from_the_tokens_before_it(looking, mode):
    trainer = looking(mode)
    batch = sample(trainer, 1)
    for one in batch.rollouts:
        assert [len(run) for run in one.sampled_runs] == [2, 2, 2]
        assert len(one.images) == 2
        for token, trained, logp in zip(one.ids, one.trained, one.sampling_logps, strict=True):
            assert logp < 0 if trained else logp == 0, token
        _, second, _ = one.sampled_runs
        assert one.sampling_logps[second[0]] == -0.5, "each turn brings its own"
        assert one.sampling_logps[second[1] - 1] == -0.5 - (second[1] - second[0] - 1)
    assert set(measured(batch)) == {2, 3, 4}, "by the images that the model had seen"
    logged = trainer._metrics["eval"]
    assert len(logged["sampling/wait_seconds"]) == 1, "all turns of a generation together"
    calls = trainer.vllm_generation.calls
    if mode == "colocate":
        assert [len(call["prompts"]) for call in calls] == [1, 2, 2]
        sampling = [call["sampling"][0] for call in calls]
        assert sampling[0]["max_tokens"] == 900 > sampling[1]["max_tokens"] > sampling[2]["max_tokens"]
        assert all(trainer._tokenizer.eos_token_id in one["stop_token_ids"] for one in sampling)
        assert [call["sampling"][0]["n"] for call in calls] == [2, 1, 1]
    else:
        assert [len(call["content_parts"]) for call in calls] == [2, 3, 3, 4, 4]
        sent = sum(part["url"] is not None for call in calls for part in call["content_parts"])
        assert sent == 3 == logged["sampling/images_sent"][0], "two of the prompt; all closer looks are equal"


@pytest.mark.parametrize("history", ["full", "last_1"])
def test_each_turn_brings_the_tokens_that_were_kept_for_it(looking, history):
    trainer = looking("colocate", turns=TurnOptions(history=history), top_k=2)
    trainer.vllm_generation.told = lambda token: {token: math.log(0.9), 9: math.log(0.1), 8: -math.inf}
    for one in sample(trainer, 1).rollouts:
        rows = zip(one.ids, one.trained, one.kept.tolist(), strict=True)
        assert all(kept == ([token, 9] if sampled else [-1, -1]) for token, sampled, kept in rows)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_last_images_go_along(looking, mode):
    trainer = looking(mode, turns=TurnOptions(history="last_1"))
    batch = sample(trainer, 1)
    assert [len(one.images) for one in batch.rollouts] == [0, 1, 1] * 2
    for one in batch.rollouts:
        (run,) = one.sampled_runs
        assert set(one.sampling_logps[: run[0]]) <= {0.0}
        assert max(one.sampling_logps[run[0] :]) < 0


def test_a_rollout_that_vllm_cannot_go_on_with_ends_there(looking, monkeypatch):
    monkeypatch.setattr("triptych_trainer.grpo.trl.building.longest_prompt", lambda backend: 700)
    trainer = looking("colocate")
    first = trainer.prompt_of(1)
    trainer.play.limits = type(trainer.play.limits)(completion_tokens=900, context_tokens=len(first.ids) + 100)
    assert {one.finish for one in sample(trainer, 1).rollouts} == {"room"}


def test_an_engine_in_sleep_mode_is_awake_between_turns(looking):
    trainer = looking("colocate", vllm_enable_sleep_mode=True)
    for _ in range(2):
        sample(trainer, 1)
    assert trainer.vllm_generation.slept == [["kv_cache"], 2] * 2
    assert trainer.vllm_generation.syncs == 2


def test_turns_are_not_sampled_ahead(looking):
    with pytest.raises(UsageError, match=r"rollout_lag=1: the turns after a tool's result.* leave out the lag"):
        looking("server", rollout_lag=1)
