"""A resumed run repeats the uninterrupted one to the bit: losses, metrics, completions and parameters."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig

TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

CASES = {
    # options, and the steps to go on from; steps 1, 3 and 5 generate, so 1 and 3 are in the middle of a cycle
    "two iterations": ({"num_iterations": 2, "max_steps": 5}, (1, 2, 3)),
    "cycle longer than a step": (
        {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "max_steps": 4},
        (1, 2, 3),
    ),
    "frozen tower, reference model": ({"num_iterations": 2, "beta": 0.1, "freeze_vision": True, "max_steps": 3}, (1,)),
    # six prompts, two per step: each epoch has three steps and shuffles anew
    "three epochs": ({"max_steps": 7}, (3, 5)),
    "metrics logged every third step": ({"logging_steps": 3, "max_steps": 6}, (1, 5)),
    "lora": ({"num_iterations": 2, "max_steps": 3, "lora": True}, (1,)),
}


@pytest.fixture
def run(make_trainer, write_rows, tmp_path):
    """Train, saving after every step, from the start or from a checkpoint."""
    rows = write_rows([0, 1, 2, 5, 1, 0])

    def go(name, *, resume=None, **options):
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
            learning_rate=1e-3,
            save_strategy="steps",
            save_steps=1,
            **{**sizes, **options},
        )
        trainer.train(resume_from_checkpoint=resume)
        history = [
            {key: value for key, value in entry.items() if key not in TIMES}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        return history, heard, {name: value.clone() for name, value in trainer.model.state_dict().items()}

    return go


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_checkpoint_goes_on_exactly(run, tmp_path, case):
    options, steps = CASES[case]
    history, heard, parameters = run("whole", **options)
    assert len({str(entry["loss"]) for entry in history}) > 1, "losses differ between steps, or nothing is tested"
    for step in steps:
        again = run("again", resume=str(tmp_path / "whole" / f"checkpoint-{step}"), **options)
        assert again[0] == history, f"resumed from step {step}"
        assert again[1] == [call for call in heard if call[0] >= step]
        assert again[2].keys() == parameters.keys()
        for name, value in again[2].items():
            assert torch.equal(value, parameters[name]), f"{name}, resumed from step {step}"


@pytest.mark.slow
def test_without_the_cycle_file_the_second_half_of_a_cycle_would_differ(run, tmp_path):
    """The file is what makes it exact: this is what a stock checkpoint does."""
    options, _ = CASES["two iterations"]
    history, heard, _ = run("whole", **options)
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


def test_another_number_of_ranks_samples_the_open_cycle_again_and_says_so(run, tmp_path):
    options = {"num_iterations": 2, "max_steps": 2}
    run("whole", **options)
    folder = tmp_path / "whole" / "checkpoint-1"
    cycle = torch.load(folder / "cycle_0.pt", weights_only=True)
    torch.save({**cycle, "num_ranks": 2}, folder / "cycle_0.pt")
    with pytest.warns(UserWarning, match="written by 2 ranks and goes on with 1"):
        _, heard, _ = run("again", resume=str(folder), **options)
    assert [step for step, _ in heard] == [1]
