"""Rollouts that a server samples while the trainer works: by which weights, in which order, and what ends a run."""

import socket
from types import SimpleNamespace

import pytest
import torch
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.server import connected
from triptych_trainer.grpo.vllm import EngineError

ROWS = [0, 1, 2, 3, 1, 2]
"""Three generations an epoch: two prompts of four completions in each."""
OPTIONS = {"num_generations": 4, "per_device_train_batch_size": 8, "shuffle_dataset": True, "seed": 3}


class Seen:
    """What `on_rollouts` is told: by training step the rows, and by which weights they were sampled."""

    def __init__(self):
        self.rows, self.versions, self.evaluated = {}, {}, []

    def __call__(self, groups, *, step, mode):
        versions = {rollout.policy_version for scored in groups for rollout in scored.group.rollouts}
        if mode == "eval":
            self.evaluated.append((step, versions))
            return
        self.rows[step] = [scored.group.key for scored in groups]
        self.versions[step] = versions


def trained(vllm_trainer, data, *, lag, mode="server", **options):
    seen = Seen()
    trainer = vllm_trainer(data, mode=mode, rollout_lag=lag, on_rollouts=seen, **{**OPTIONS, "max_steps": 5, **options})
    trainer.train()
    return trainer, seen


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1, 2])
def test_a_generation_is_sampled_by_the_weights_of_so_many_generations_before(vllm_trainer, write_rows, lag):
    data = write_rows(ROWS)
    _, now = trained(vllm_trainer, data, lag=0)
    trainer, ahead = trained(vllm_trainer, data, lag=lag)
    assert now.versions == {step: {step} for step in range(5)}
    assert ahead.versions == {step: {max(0, step - lag)} for step in range(5)}
    assert ahead.rows == now.rows, "the order of rows does not depend on the lag, also over epochs"
    server = trainer.vllm_generation
    assert len(server.calls) == 2 * 5, "nothing is asked for that no step trains on"
    assert server.syncs == 5 - lag, "weights that sample nothing are not sent"
    logged = [line for line in trainer.state.log_history if "sampling/lag" in line]
    assert [line["sampling/lag"] for line in logged] == [min(step, lag) for step in range(5)]
    assert all(line["sampling/wait_seconds"] >= 0 and line["sampling/payload_bytes"] > 0 for line in logged)


@pytest.mark.slow
def test_several_steps_of_one_generation(vllm_trainer, write_rows):
    data = write_rows(ROWS)
    options = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 9}
    _, now = trained(vllm_trainer, data, lag=0, **options)
    _, ahead = trained(vllm_trainer, data, lag=1, **options)
    assert ahead.rows == now.rows
    assert ahead.versions == {0: {0}, 4: {0}, 8: {4}}


@pytest.mark.slow
def test_an_evaluation_between_samples_by_the_weights_of_its_step(vllm_trainer, write_rows):
    held_out = write_rows([1, 2], name="held_out.jsonl")
    options = {"held_out": held_out, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 8}
    _, ahead = trained(vllm_trainer, write_rows(ROWS), lag=1, max_steps=4, **options)
    assert ahead.evaluated == [(2, {2}), (4, {4})]
    assert ahead.versions == {0: {0}, 1: {0}, 2: {1}, 3: {2}}


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_rows_and_samples_them_anew(vllm_trainer, write_rows, tmp_path):
    data = write_rows(ROWS)
    _, whole = trained(vllm_trainer, data, lag=1, max_steps=7, save_strategy="steps", save_steps=4)
    folder = tmp_path / "out" / "checkpoint-4"
    seen = Seen()
    trainer = vllm_trainer(data, mode="server", rollout_lag=1, on_rollouts=seen, max_steps=7, **OPTIONS)
    trainer.train(resume_from_checkpoint=str(folder))
    assert seen.rows == {step: whole.rows[step] for step in (4, 5, 6)}
    assert seen.versions == {4: {4}, 5: {4}, 6: {5}}, "what was under way is sampled again, by the newer weights"


def test_a_server_that_dies_while_it_samples_ahead_ends_the_run(vllm_trainer, write_rows, monkeypatch):
    data = write_rows(ROWS)
    seen = Seen()
    trainer = vllm_trainer(data, mode="server", rollout_lag=1, on_rollouts=seen, max_steps=7, **OPTIONS)
    server = trainer.vllm_generation
    answer = server.server_generate

    def dies(request):
        if server.syncs == 2:
            raise ConnectionError("Connection refused")
        return answer(request)

    monkeypatch.setattr(server, "server_generate", dies)
    with pytest.raises(EngineError, match=r"server at \S+ failed while it sampled .*refused.* last checkpoint"):
        trainer.train()
    assert set(seen.versions) == {0, 1}, "what was sampled before was trained on"


def test_a_server_that_takes_connections_and_says_nothing_is_not_waited_for_for_ever():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        args = SimpleNamespace(
            use_vllm=True,
            vllm_mode="server",
            world_size=1,
            process_index=0,
            device=torch.device("cpu"),
            vllm_server_base_url=url,
            vllm_server_timeout=0.1,
        )
        with pytest.raises(UsageError, match=rf"{url} takes connections and does not answer within .* 0.1 seconds"):
            connected(args, transfer="auto").__enter__()


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("colocate", {}, r"rollout_lag=1: only a vLLM server samples while the trainer works; .*`triptych serve`"),
        ("server", {"vllm_importance_sampling_correction": False}, r"rollout_lag=1: .* have to be corrected for"),
    ],
)
def test_what_cannot_be_sampled_ahead_is_refused(vllm_trainer, write_rows, mode, options, message):
    with pytest.raises(UsageError, match=message):
        vllm_trainer(write_rows([1]), mode=mode, rollout_lag=1, **options)


def test_ranks_that_share_weights_are_refused_with_a_lag(vllm_trainer, write_rows, monkeypatch):
    monkeypatch.setattr("triptych_trainer.grpo.trl.building.shards_weights", lambda trainer: True)
    vllm_trainer(write_rows([1]), mode="server")
    with pytest.raises(UsageError, match=r"rollout_lag=1: .* \(FSDP, ZeRO-3\) .* use DDP or ZeRO-2"):
        vllm_trainer(write_rows([1]), mode="server", rollout_lag=1)
