"""A resumed run repeats the uninterrupted one to the bit: losses, metrics, completions and parameters."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from triptych_trainer.checkpoints.folder import MANIFEST, CheckpointError, manifest_of, seal
from triptych_trainer.checkpoints.weights import load_weights
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")

ARCHITECTURE = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text(encoding="utf-8")

CASES = {
    # options, and the steps to go on from; steps 1, 3 and 5 generate, so 1 and 3 are in the middle of a cycle
    "two iterations": ({"num_iterations": 2, "max_steps": 5}, (2, 3)),
    "cycle longer than a step": (
        {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "max_steps": 4},
        (1, 2),
    ),
    "frozen tower, reference model": ({"num_iterations": 2, "beta": 0.1, "freeze_vision": True, "max_steps": 3}, (1,)),
    # six prompts, two per step: each epoch has three steps and shuffles anew
    "three epochs": ({"max_steps": 7}, (5,)),
    "metrics logged every third step": ({"logging_steps": 3, "max_steps": 6}, (5,)),
    "lora": ({"num_iterations": 2, "max_steps": 3, "lora": True}, (1,)),
}


@pytest.fixture
def run(make_trainer, write_rows, tmp_path):
    """Train, saving after every step, from the start or from a checkpoint."""
    rows = write_rows([0, 1, 2, 5, 1, 0])

    def go(name, *, resume=None, whole_log=False, **options):
        heard = []

        def reward(completions, example_id, **_):
            texts = [completion[0]["content"] for completion in completions]
            heard.append((trainer.state.global_step, list(zip(example_id, texts, strict=True))))
            return [float(len(set(text))) for text in texts]

        adapter = LoraConfig(target_modules=["q_proj", "v_proj"]) if options.pop("lora", False) else None
        sizes = {"per_device_train_batch_size": 2 if "steps_per_generation" in options else 4}
        trainer = make_trainer(
            rows,
            rewards=[reward],
            peft_config=adapter,
            output_dir=str(tmp_path / name),
            save_strategy="steps",
            save_steps=1,
            **{"learning_rate": 1e-3, **sizes, **options},
        )
        go.trainers.append(trainer)
        trainer.train(resume_from_checkpoint=resume)
        history = [
            {key: value for key, value in entry.items() if whole_log or key not in TIMES}
            for entry in trainer.state.log_history
        ]
        return history, heard, {name: value.clone() for name, value in trainer.model.state_dict().items()}

    go.trainers = []
    return go


def documented(cycle, step):
    """A checkpoint's line in the table of docs/architecture.md."""
    rows = cycle["batches"] and ", ".join(map(str, cycle["batches"]["keys"]))
    then = "trains on the stored completions" if rows else "generates"
    return f"| {step} | {cycle['step']} | {rows or 'none'} | {then} |"


def mean_loss(history, options):
    """The mean loss of a step, from logs that are means over ``logging_steps``."""
    return sum(entry["loss"] for entry in history[:-1]) * options.get("logging_steps", 1) / options["max_steps"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_checkpoint_goes_on_exactly(run, tmp_path, case):
    options, steps = CASES[case]
    history, heard, parameters = run("whole", **options)
    assert len({entry["loss"] for entry in history[:-1]}) > 1, "losses differ between steps, or nothing is tested"
    assert history[-1]["train_loss"] == pytest.approx(mean_loss(history, options)), "over all steps"
    for step in steps:
        again = run("again", resume=str(tmp_path / "whole" / f"checkpoint-{step}"), **options)
        assert again[0] == history, f"resumed from step {step}"
        assert again[1] == [call for call in heard if call[0] >= step]
        assert again[2].keys() == parameters.keys()
        for name, value in again[2].items():
            assert torch.equal(value, parameters[name]), f"{name}, resumed from step {step}"


@pytest.mark.slow
def rates_of(history):
    return [entry["learning_rate"] for entry in history if "learning_rate" in entry]


@pytest.mark.slow
def test_the_options_of_an_optimizer_are_those_of_the_resumed_run(run, tmp_path):
    whole, _, _ = run("whole", max_steps=4)
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    history, _, _ = run("lower", max_steps=4, resume=checkpoint, learning_rate=1e-5)
    assert rates_of(history)[:2] == rates_of(whole)[:2]
    assert rates_of(history)[2:] == pytest.approx([rate / 100 for rate in rates_of(whole)[2:]], rel=1e-12)
    trainer = run.trainers[-1]
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0}
    run("other", max_steps=3, resume=checkpoint, weight_decay=0.3, adam_beta1=0.5, adam_epsilon=1e-3)
    decayed, plain = run.trainers[-1].optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert [(group["betas"], group["eps"]) for group in (decayed, plain)] == [((0.5, 0.999), 1e-3)] * 2


@pytest.mark.slow
def test_without_the_cycle_file_the_second_half_of_a_cycle_would_differ(run, tmp_path):
    """The file is what makes it exact: this is what a stock checkpoint does."""
    options, _ = CASES["two iterations"]
    history, heard, _ = run("whole", **options)
    for step in range(1, 6):
        assert documented(torch.load(tmp_path / "whole" / f"checkpoint-{step}" / "cycle_0.pt"), step) in ARCHITECTURE
    checkpoint = tmp_path / "whole" / "checkpoint-3"
    (checkpoint / "cycle_0.pt").unlink()
    (checkpoint / "checkpoint.json").unlink()
    other_history, other_heard, _ = run("other", resume=str(checkpoint), **options)
    assert other_history != history
    assert other_heard != [call for call in heard if call[0] >= 3]


def test_a_checkpoint_holds_everything_that_a_step_depends_on(run, tmp_path):
    run("whole", num_iterations=2, max_steps=1)
    folder = Path(tmp_path / "whole" / "checkpoint-1")
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        assert (folder / name).stat().st_size > 0
    cycle = torch.load(folder / "cycle_0.pt", weights_only=True)
    assert cycle["step"] == 1
    (part,) = cycle["batches"]["parts"]
    assert sorted(cycle["batches"]["keys"]) == sorted(group["key"] for group in part["groups"])
    assert all(
        len(rollout["ids"]) == len(rollout["trained"]) > 0 for group in part["groups"] for rollout in group["rollouts"]
    )


@pytest.mark.slow
def test_another_number_of_ranks_samples_the_open_cycle_again_and_says_so(run, tmp_path):
    options = {"num_iterations": 2, "max_steps": 2}
    run("whole", **options)
    folder = tmp_path / "whole" / "checkpoint-1"
    cycle = torch.load(folder / "cycle_0.pt", weights_only=True)
    torch.save({**cycle, "num_ranks": 2}, folder / "cycle_0.pt")
    with pytest.warns(UserWarning, match="written by 2 ranks and goes on with 1"):
        _, heard, _ = run("again", resume=str(folder), **options)
    assert [step for step, _ in heard] == [1]


@pytest.mark.slow
def test_a_cycle_of_other_sizes_is_sampled_again_where_the_sampler_is(run, tmp_path):
    """The first of two parts was trained on as if it were the whole generation."""
    run("whole", steps_per_generation=2, max_steps=1)
    checkpoint = str(tmp_path / "whole" / "checkpoint-1")
    with pytest.warns(UserWarning, match="checkpoint-1 was written with steps_per_generation=2 and goes on with 1: "):
        _, heard, _ = run("again", resume=checkpoint, steps_per_generation=1, max_steps=3)
    assert [step for step, _ in heard] == [1, 2]
    with pytest.warns(UserWarning, match="gradient_accumulation_steps=1 and goes on with 2: "):
        _, heard, _ = run(
            "accumulated", resume=checkpoint, steps_per_generation=2, gradient_accumulation_steps=2, max_steps=3
        )
    assert [step for step, _ in heard] == [1, 2], "a step trains on the parts of one generation"


@pytest.mark.slow
def test_a_finished_run_has_nothing_left_to_do_also_where_it_ended_inside_an_epoch(run, tmp_path):
    """transformers trains one step more, each time."""
    # an epoch has three steps; the metrics of step 2 are still to be logged when its checkpoint is written
    options = {"max_steps": 2, "lr_scheduler_type": "constant", "logging_steps": 3}
    history, _, parameters = run("whole", **options)
    assert "reward" in history[-1]
    again = run("whole", resume=str(tmp_path / "whole" / "checkpoint-2"), save_total_limit=1, **options)
    assert not (tmp_path / "whole" / "checkpoint-1").exists(), "as if a kill had come before it was removed"
    assert again[0] == history
    assert again[1] == [], "nothing is generated"
    assert all(torch.equal(value, parameters[name]) for name, value in again[2].items())


@pytest.mark.slow
def test_the_speeds_at_the_end_are_those_of_all_steps(run, tmp_path):
    run("whole", max_steps=2)
    checkpoint = tmp_path / "whole" / "checkpoint-1"
    cycle = torch.load(checkpoint / "cycle_0.pt", weights_only=True)
    torch.save({**cycle, "seconds": 1000.0}, checkpoint / "cycle_0.pt")
    last = run("again", resume=str(checkpoint), max_steps=2, whole_log=True)[0][-1]
    assert 1000 < last["train_runtime"] < 1100
    assert last["train_steps_per_second"] == pytest.approx(2 / last["train_runtime"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 99}, "has version 99, and this program reads 1"),
        ({"parts": {"surplus": [1]}}, "contains surplus, which this version of Triptych does not read"),
    ],
)
def test_a_cycle_of_another_version_is_sampled_again_with_a_warning(run, tmp_path, change, reason):
    options = {"num_iterations": 2, "max_steps": 2}
    run("whole", **options)
    file = tmp_path / "whole" / "checkpoint-1" / "cycle_0.pt"
    torch.save({**torch.load(file, weights_only=True), **change}, file)
    written = manifest_of(file.parent)
    (file.parent / MANIFEST).unlink()
    seal(file.parent, step=1, num_ranks=1, run=written["run"])
    with pytest.warns(UserWarning, match=f"cycle_0.pt: the file {reason}; the completions .* are sampled again"):
        _, heard, _ = run("again", resume=str(file.parent), **options)
    assert [step for step, _ in heard] == [1]


@pytest.mark.slow
def test_a_part_that_a_trainer_adds_to_the_cycle_comes_back(run, tmp_path, monkeypatch):
    returned = []
    monkeypatch.setattr(MultiImageGRPOTrainer, "cycle_parts", lambda self: {"surplus": {"ids": torch.tensor([3, 1])}})
    monkeypatch.setattr(MultiImageGRPOTrainer, "restore_cycle_parts", lambda self, parts: returned.append(parts))
    run("whole", max_steps=1)
    run("again", resume=str(tmp_path / "whole" / "checkpoint-1"), max_steps=2)
    (parts,) = returned
    assert parts["surplus"]["ids"].tolist() == [3, 1]


@pytest.mark.slow
def test_weights_of_another_model_are_one_sentence(run, tmp_path):
    run("whole", max_steps=1)
    checkpoint = tmp_path / "whole" / "checkpoint-1"
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["intermediate_size"] //= 2
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, checkpoint)
    assert "checkpoint-1 contains another model than the one given: model.language_model.layers.0.mlp.gate_proj" in str(
        caught.value
    )
    assert "give the --model_name_or_path that the run was started with" in str(caught.value)
