"""Folders that are given as checkpoints and are none, and checkpoints that lack what a run continues from."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.checkpoints.kind import check_kind, check_name, check_readable, lacking
from triptych_trainer.errors import UsageError

WHOLE = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "cycle_0.pt")


def folder_with(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "got an empty folder; name a folder that training saved"),
        (["b", "a"], "got a folder with a, b; name a folder"),
        (
            ["config.json", "model.safetensors"],
            "got a model; train on from its weights: --model_name_or_path .*model wi",
        ),
        (["adapter_config.json"], "got a model"),
        (["run.json", "trainer_state.json", "config.json"], "got a model"),
        (
            ["trainer_state.json", "run.json", "checkpoint-3/a", "checkpoint-20/a"],
            r"contains 2 of them; name one \(.*checkpoint-20\), or give --output_dir .*model --resume_from_check",
        ),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_what_it_is(names, said, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UsageError, match=f"--resume_from_checkpoint .*model: expected a checkpoint.*{said}"):
        check_kind(folder_with(tmp_path / "model", *names))


def test_a_script_goes_on_from_checkpoints_alone(make_trainer, write_rows, tmp_path):
    (tmp_path / "empty").mkdir()
    trainer = make_trainer(write_rows([1, 2, 0, 1]), max_steps=1)
    said = "^resume_from_checkpoint .*nowhere: no such folder; resume_from_checkpoint=True takes the newest of"
    with pytest.raises(UsageError, match=said):
        trainer.train(resume_from_checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="expected a checkpoint, .* got an empty folder"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "empty"))


def test_a_renamed_checkpoint_goes_on_in_another_folder_only(tmp_path):
    check_kind(folder_with(tmp_path / "best", *WHOLE))
    with pytest.raises(UsageError, match="expected the name checkpoint-STEP in the output folder, got best; give it"):
        check_name(tmp_path / "best")
    assert check_name(tmp_path / "checkpoint-7").name == "checkpoint-7"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (WHOLE, []),
        (["global_step5/mp_rank_00", "rng_state.pth", "cycle_0.pt"], []),
        (["optimizer_0/a.distcp", "scheduler.pt", "rng_state_0.pth", "cycle_0.pt"], []),
        (
            ["optimizer.pt", "rng_state.pth", "cycle_0.pt"],
            ["checkpoint-3 contains no scheduler.pt: the optimizer and the schedule of the learning rate begin anew"],
        ),
        (
            ["optimizer.pt", "scheduler.pt"],
            [
                "checkpoint-3 contains no rng_state.pth, cycle_0.pt: other random numbers are drawn, completions under "
                "way are sampled again, and metrics that were not logged yet are lost"
            ],
        ),
    ],
)
def test_what_begins_anew_is_said(names, said, tmp_path):
    assert lacking(folder_with(tmp_path / "checkpoint-3", *names)) == said


@pytest.fixture
def bare(tmp_path):
    """A checkpoint as another tool writes it, without a manifest."""
    save_file({"a": torch.arange(90.0)}, tmp_path / "model.safetensors")
    torch.save({"a": torch.arange(90.0)}, tmp_path / "optimizer.pt")
    torch.save([1] * 9, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "images_0.npz", a=np.arange(90))
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    (tmp_path / "chat_template.jinja").write_text("{")
    check_readable(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "images_0.npz", "trainer_state.json"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.98])
def test_a_file_that_is_cut_short_is_named(bare, name, left):
    content = (bare / name).read_bytes()
    (bare / name).write_bytes(content[: int(left * len(content))])
    with pytest.raises(CheckpointError, match=f"{name} is cut short or damaged; copy the checkpoint again"):
        check_readable(bare)
    (bare / "checkpoint.json").write_text("{}")
    check_readable(bare)  # its digests say more
