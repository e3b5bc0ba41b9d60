"""What the trainer's own saving keeps of transformers': the best model, the limit, and errors of every kind."""

import errno
import json

import pytest
import torch
from triptych_trainer.checkpoints.folder import CheckpointError, checkpoints, defect


def saving(make_trainer, write_rows, **options):
    return make_trainer(
        write_rows([0, 1, 2, 5]), save_strategy="steps", save_steps=1, per_device_train_batch_size=4, **options
    )


@pytest.mark.slow
def test_only_the_newest_are_kept(make_trainer, write_rows, tmp_path):
    saving(make_trainer, write_rows, save_total_limit=2, max_steps=3).train()
    assert sorted(path.name for path in (tmp_path / "out").glob("*checkpoint*")) == ["checkpoint-2", "checkpoint-3"]
    assert not list((tmp_path / "out").glob(".unfinished*"))


@pytest.mark.slow
def test_the_best_checkpoint_is_recorded_by_its_final_name_and_loaded_at_the_end(make_trainer, write_rows, tmp_path):
    options = {
        "held_out": write_rows([0, 5], name="held_out.jsonl"),
        "per_device_eval_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_reward",
        "learning_rate": 1e-2,
    }
    trainer = saving(make_trainer, write_rows, max_steps=3, **options)
    trainer.train()
    best = tmp_path / "out" / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)
    assert defect(best) is None
    loaded = type(trainer.model).from_pretrained(best).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in trainer.model.state_dict().items())

    (tmp_path / "out").rename(tmp_path / "moved")
    again = saving(make_trainer, write_rows, max_steps=3, output_dir=str(tmp_path / "moved"), **options)
    again.train(resume_from_checkpoint=str(checkpoints(tmp_path / "moved")[0]))
    assert again.state.best_model_checkpoint == str(tmp_path / "moved" / best.name), "it moved with the folder"
    assert all(torch.equal(value, loaded[name]) for name, value in again.model.state_dict().items())


@pytest.mark.slow
def test_no_space_left_on_device_is_said_in_one_sentence(make_trainer, write_rows, tmp_path, monkeypatch):
    trainer = saving(make_trainer, write_rows)
    save = torch.save

    def full(value, path, *rest, **options):
        if str(path).endswith("scheduler.pt") and "checkpoint-2" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, path, *rest, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError) as caught:
        trainer.train()
    assert "checkpoint-2 cannot be written to " in str(caught.value)
    assert "[Errno 28] No space left on device; checkpoint-1 is whole and takes " in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out").glob("*checkpoint*")) == ["checkpoint-1"]
    assert not list((tmp_path / "out").glob(".unfinished*"))
    assert defect(tmp_path / "out" / "checkpoint-1") is None


def test_weights_are_saved_by_the_names_of_the_hub_and_loaded_back(make_trainer, write_rows, tmp_path):
    """transformers' own trainer finds none of its parameters in the file and goes on with those it has."""
    trainer = saving(make_trainer, write_rows, max_steps=1, learning_rate=1e-2)
    trainer.train()
    trained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    fresh = saving(make_trainer, write_rows, max_steps=1)
    assert any(not torch.equal(value, trained[name]) for name, value in fresh.model.state_dict().items())
    fresh._load_from_checkpoint(str(tmp_path / "out" / "checkpoint-1"))
    assert all(torch.equal(value, trained[name]) for name, value in fresh.model.state_dict().items())
