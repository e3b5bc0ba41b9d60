"""A real server and the trainer agree, whenever the weights change and also when it samples ahead of the training."""

import copy
import json
import os
import signal
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import TrainerCallback
from triptych_trainer.commands.train import main as train
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.batch import TrainingBatch
from triptych_trainer.grpo.step import sampling_logps, score
from triptych_trainer.grpo.vllm.folder_transfer import MEMORY, PREFIX, FolderLoad, write_weights
from triptych_trainer.grpo.vllm.server import server_of

RESIZED = 6
"""The row whose images are resized, by Pillow here and by torchvision in a stock processor."""


@pytest.fixture(scope="module")
def served(build, server):
    """A trainer that samples from a server, with weights that go by a folder."""
    return build(vllm_mode="server", vllm_server_base_url=server.url)


def sampled(trainer, *keys):
    rows = [{"row": key} for key in keys for _ in range(trainer.num_generations)]
    return trainer._generate_and_score_completions(rows)["triptych_batch"]


def differences(trainer, *keys):
    """The largest difference between the server's log-probabilities and the trainer's own, by row."""
    batch = sampled(trainer, *keys)
    old_BC = batch.old_logps_BC
    rows = (old_BC - sampling_logps(batch, device=old_BC.device)).abs().amax(dim=1)
    return dict(zip(keys, rows.view(len(keys), -1).amax(dim=1).tolist(), strict=True))


def test_the_server_and_the_trainer_agree_and_pixels_go_once(served):
    found = differences(served, *range(7))
    assert max(found[key] for key in range(RESIZED)) < 1e-5, found
    assert found[RESIZED] < 1e-3, found
    first = dict(served.vllm_generation.last_payload)
    assert first["images_sent"] == 6, "twelve places in seven rows show six images"
    again = differences(served, *reversed(range(7)))
    assert max(again[key] for key in range(RESIZED)) < 1e-5, again
    second = served.vllm_generation.last_payload
    assert second["images_sent"] == 0
    assert second["payload_bytes"] < first["payload_bytes"] / 3, (first, second)
    print(f"payload of a step: {first['payload_bytes']} bytes, then {second['payload_bytes']}")


def test_weights_and_features_are_those_of_this_step(served):
    before = copy.deepcopy(served.model.state_dict())
    served.state.global_step += 1
    with torch.no_grad():
        for parameter in served.model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    moved = differences(served, *range(RESIZED))
    served.model.load_state_dict(before)
    assert max(moved.values()) < 1e-4, moved
    assert not list(MEMORY.glob(f"{PREFIX}-{os.getpid()}-*/*")), "a folder of weights is removed when it is loaded"


def test_more_completions_than_the_server_samples_at_a_time(served, monkeypatch):
    monkeypatch.setattr(served, "num_generations", 11)  # the server takes 8
    batch = sampled(served, 2)
    assert len(batch.rollouts) == 11
    assert len({rollout.ids for rollout in batch.rollouts}) > 5


@pytest.mark.parametrize("cut", [{"top_k": 5}, {"top_k": 12, "top_p": 0.8, "min_p": 0.3}], ids=str)
def test_a_cut_distribution_is_scored_over_the_tokens_that_the_server_kept(served, monkeypatch, cut):
    answers, client = [], server_of(served.vllm_generation).client
    ask = client.generated
    monkeypatch.setattr(client, "generated", lambda *some, **more: answers.append(ask(*some, **more)) or answers[-1])
    for name, value in {"scores_kept": True, **cut}.items():
        monkeypatch.setattr(served.vllm_generation, name, value, raising=False)
    served.state.global_step += 1  # the test before has left other weights on the server
    found = differences(served, *range(RESIZED))
    assert max(found.values()) < 1e-5, found
    told = [
        place
        for answer in answers
        for choice in json.loads(answer)["choices"]
        for place in choice["logprobs"]["content"]
    ]
    size = len(json.dumps([place["top_logprobs"] for place in told], separators=(",", ":"))) / len(told)
    print(f"{cut}: {max(found.values()):.1e}; likeliest tokens of a token: {size:.0f} bytes of the answer")


def test_turns_behind_the_image_of_a_tool_are_sampled_as_they_are_trained(looking, server):
    trainer = looking(vllm_mode="server", vllm_server_base_url=server.url)
    batch = sampled(trainer, 1, 4)
    off_BC = (batch.old_logps_BC - sampling_logps(batch, device=batch.old_logps_BC.device)).abs()
    assert off_BC.max() < 1e-5, off_BC.amax(dim=1)
    assert [(len(one.images), len(one.sampled_runs)) for one in batch.rollouts] == [(1, 2)] * 4
    assert trainer.vllm_generation.last_payload["images_sent"] == 2, "what the tool returned, and no image of a prompt"


def test_weights_of_another_run_are_not_sampled_from(served, tmp_path):
    client = server_of(served.vllm_generation).client
    served.state.global_step += 1  # the test before has loaded those of another trainer
    sampled(served, 1)
    with torch.no_grad():
        folder = write_weights((name, 1.5 * weight) for name, weight in served.model.named_parameters())
    FolderLoad(client=client, folder=folder, forgets=False)(last=None)
    with pytest.raises(UsageError, match=r"another run has loaded its own"):
        sampled(served, 1)
    served.state.global_step += 1
    assert max(differences(served, 1, 3).values()) < 1e-5
    with pytest.raises(UsageError, match=r"does not see .*elsewhere"):
        FolderLoad(client=client, folder=tmp_path / "elsewhere", forgets=False)(last=None)
    assert max(differences(served, 1, 3).values()) < 1e-5, "and has the weights that it had"


class Remembered(TrainerCallback):
    """What the weights were at each step, and what was sampled for it."""

    def __init__(self):
        self.weights, self.groups = {}, {}

    def on_step_begin(self, args, state, control, *, model, **kwargs):
        self.weights[state.global_step] = copy.deepcopy(model.state_dict())

    def see(self, groups, *, step, mode):
        self.groups[step] = tuple(scored.group for scored in groups)


def test_generations_ahead_are_sampled_by_the_weights_that_they_are_tagged_with(build, server):
    remembered = Remembered()
    trainer = build(
        {"rollout_lag": 1, "on_rollouts": remembered.see, "callbacks": [remembered], "mismatch_kl_warn": None},
        vllm_mode="server",
        vllm_server_base_url=server.url,
        max_steps=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
    )
    trainer.train()
    apart = []
    for step, version in {0: 0, 1: 0, 2: 1, 3: 2}.items():
        groups = remembered.groups[step]
        assert {rollout.policy_version for group in groups for rollout in group.rollouts} == {version}
        assert off_by(trainer, groups, remembered.weights[version]) < 2e-3, f"step {step}"  # one row is resized
        apart.append(off_by(trainer, groups, remembered.weights[step]))
    assert min(apart[1:]) > 1e-2, f"the weights moved too little for this test: {apart}"
    (last,) = [line for line in trainer.state.log_history if line.get("step") == 4 and "sampling/lag" in line]
    assert last["sampling/lag"] == 1
    assert last["sampling/images_sent"] == 0


def off_by(trainer, groups, weights):
    """How far the log-probabilities that the server told are from those of some weights."""
    trainer.model.load_state_dict(weights)
    trainer.engine.forget()
    rows = sum(len(group) for group in groups)
    batch = TrainingBatch(groups=groups, advantages=torch.zeros(rows), num_trained_tokens=torch.tensor(1))
    with torch.no_grad():
        logps_BC = score(trainer.engine, lambda: nullcontext(trainer.model), batch, num_pieces=1)
    batch = replace(batch, old_logps_BC=logps_BC)
    return float((logps_BC - sampling_logps(batch, device=logps_BC.device)).abs().max())


def test_adapters_on_the_tower_are_sampled_with_and_leave_the_weights_alone(build, server):
    trainer = build(
        {"peft_config": LoraConfig(r=4, target_modules=r".*(q_proj|visual.*qkv)", init_lora_weights=False)},
        vllm_mode="server",
        vllm_server_base_url=server.url,
        learning_rate=1e-2,
    )
    base = {name: weight.clone() for name, weight in trainer.model.named_parameters() if "lora_" not in name}
    trainer.train()
    assert max(differences(trainer, *range(RESIZED)).values()) < 1e-4
    assert all(torch.equal(base[name], weight) for name, weight in trainer.model.named_parameters() if name in base)


LONGER = {"num_generations": 4, "per_device_train_batch_size": 28, "beta": 0.04, "gradient_checkpointing": True}
"""More work for the trainer, so that it takes about as long as sampling: it also scores with a reference model."""


@pytest.mark.parametrize("lag", [0, 1])
def test_what_a_step_waits_for(build, server, lag):
    """`LAG_STEPS=20 LAG_TOKENS=4 make vllm-check` prints the first rows of the second table of docs/rollouts.md."""
    steps, tokens = int(os.environ.get("LAG_STEPS", "2")), int(os.environ.get("LAG_TOKENS", "8"))
    trainer = build(
        {"rollout_lag": lag, "mismatch_kl_warn": None},
        vllm_mode="server",
        vllm_server_base_url=server.url,
        max_steps=steps,
        max_completion_length=tokens,
        **(LONGER if steps > 2 else {}),
    )
    before, cpu = time.process_time(), server.cpu_seconds()
    trainer.train()
    lines = [line for line in trainer.state.log_history if "sampling/wait_seconds" in line]
    assert len(lines) == steps
    lines = lines[2:] or lines  # the first two begin, with a lag as well as without
    wait = sum(line["sampling/wait_seconds"] for line in lines) / len(lines)
    whole = sum(line["step_time"] for line in lines) / len(lines)
    print(
        f"\n| `--rollout_lag {lag}` | {wait:.2f} s | {whole:.2f} s | {wait / whole:.0%} |  mean of {len(lines)} steps"
    )
    print(f"CPU seconds: trainer {time.process_time() - before:.1f}, server {server.cpu_seconds() - cpu:.1f}")


def command_line(rows: Path, model_dir: Path, output: Path, url: str) -> list[str]:
    return [
        *("--model_name_or_path", str(model_dir), "--data", str(rows), "--output_dir", str(output)),
        *("--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", url, "--rollout_lag", "1"),
        *("--use_cpu", "True", "--bf16", "False", "--num_generations", "2", "--per_device_train_batch_size", "4"),
        *("--gradient_accumulation_steps", "1", "--max_completion_length", "4", "--memory_forecast", "false"),
        *("--save_steps", "1", "--quiet", "--report_to", "none"),
    ]


def test_a_run_of_the_command_line_ends_with_0(server, model_dir, write_rows, tmp_path):
    output = tmp_path / "out"
    words = command_line(write_rows([1, 2, 0, 3]), model_dir, output, server.url)
    cut = ["--top_p", "0.9", "--top_k", "6", "--beta", "0.04", "--mismatch_kl_limit", "1e-3"]
    assert train([*words, "--max_steps", "3", *cut]) == 0
    assert (output / "model.safetensors").is_file()
    assert (output / "report.html").is_file()


SIGNALS = """
import os, signal

calls = 0

def length(completions, **columns):
    global calls
    calls += 1
    if calls == {call} and not os.path.exists({once!r}):
        open({once!r}, "w").close()
        os.killpg({pid}, signal.{name})
    return [float(len(text)) for text in completions]
"""


def test_a_server_that_stands_still_ends_the_run_in_time_and_the_run_goes_on(
    server, model_dir, write_rows, tmp_path, capsys
):
    output, reward = tmp_path / "out", tmp_path / "stops.py"
    reward.write_text(SIGNALS.format(pid=server.process.pid, call=2, name="SIGSTOP", once=str(tmp_path / "once")))
    words = command_line(write_rows([1, 2, 0, 3]), model_dir, output, server.url)
    words += ["--max_steps", "3", "--reward", f"{reward}:length"]
    try:
        assert train([*words, "--rollout_seconds", "4"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert train([*words, "--vllm_server_timeout", "1", "--output_dir", str(tmp_path / "late")]) == 2
        assert "takes connections and does not answer within --vllm_server_timeout 1" in capsys.readouterr().err
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert f"the vLLM server at {server.url} did not answer" in error
    assert "within 4 seconds; raise --rollout_seconds" in error
    kept = sorted(folder.name for folder in output.glob("checkpoint-*"))
    assert kept
    assert (output / kept[-1] / "model.safetensors").is_file()
    assert not list(MEMORY.glob(f"{PREFIX}-{os.getpid()}-*/*")), "no folder of weights is left"
    assert train([*words, "--rollout_seconds", "60", "--resume_from_checkpoint", "latest"]) == 0
    assert (output / "checkpoint-3" / "model.safetensors").is_file()
    print(f"CPU seconds of the server, from its start: {server.cpu_seconds():.0f}")


def test_a_server_that_is_killed_ends_the_run_in_one_sentence(server, model_dir, write_rows, tmp_path, capsys):
    """The last test of the module: the server does not come back."""
    output, reward = tmp_path / "out", tmp_path / "kills.py"
    reward.write_text(SIGNALS.format(pid=server.process.pid, call=3, name="SIGKILL", once=str(tmp_path / "once")))
    words = command_line(write_rows([1, 2, 0, 3]), model_dir, output, server.url)
    assert train([*words, "--max_steps", "9", "--reward", f"{reward}:length"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the vLLM server at {server.url} failed while it sampled" in error
    assert "--resume_from_checkpoint latest" in error
    kept = sorted(folder.name for folder in output.glob("checkpoint-*"))
    assert kept, "a checkpoint was written before"
    assert (output / kept[-1] / "model.safetensors").is_file()
