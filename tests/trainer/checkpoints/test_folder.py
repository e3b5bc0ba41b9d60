"""Folders: whole ones are found, broken ones are passed over with the reason, unfinished ones are cleared away."""

import shutil

import pytest
import torch
from triptych_trainer.checkpoints.folder import (
    CheckpointError,
    check_whole,
    checkpoints,
    defect,
    latest_checkpoint,
    name_aside,
    publish,
    remove_unfinished,
    seal,
)


@pytest.fixture
def write(tmp_path):
    """Write a checkpoint as a run does; ``until`` ends early: "written" or "sealed"."""

    def write(step, *, until="published"):
        folder = tmp_path / name_aside(step) / f"checkpoint-{step}"
        (folder / "shards").mkdir(parents=True)
        torch.save({"step": step}, folder / "optimizer.pt")
        (folder / "shards" / "0.bin").write_bytes(bytes(100 * step))
        if until == "written":
            return folder
        seal(folder, step=step, num_ranks=1)
        if until == "sealed":
            return folder
        final = publish(folder, output=tmp_path)
        shutil.rmtree(folder.parent)
        return final

    return write


def test_the_newest_is_by_number_and_not_by_name(write, tmp_path):
    for step in (9, 100, 20):
        write(step)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-20", "checkpoint-9"]
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-100", [])


def test_no_folder_and_an_empty_one_hold_none(tmp_path):
    assert latest_checkpoint(tmp_path / "missing") == (None, [])
    assert latest_checkpoint(tmp_path) == (None, [])


@pytest.mark.parametrize(
    ("breakage", "reason"),
    [
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (
            lambda folder: (folder / "shards" / "0.bin").write_bytes(b"cut"),
            "shards/0.bin has 3 bytes, 300 were written",
        ),
        (lambda folder: (folder / "checkpoint.json").unlink(), "it has no checkpoint.json, which is written last"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "its checkpoint.json cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "its checkpoint.json cannot be read"),
    ],
)
def test_a_broken_one_is_passed_over_with_the_reason(write, tmp_path, breakage, reason):
    write(2)
    breakage(write(3))
    found, skipped = latest_checkpoint(tmp_path)
    assert found == tmp_path / "checkpoint-2"
    assert len(skipped) == 1
    assert skipped[0].startswith("checkpoint-3 is not whole and is passed over: ")
    assert reason in skipped[0]


def test_what_is_not_finished_is_cleared_away(write, tmp_path):
    write(1)
    write(2, until="written")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_save_that_only_lacked_its_name_gets_it(write, tmp_path):
    write(1)
    write(2, until="sealed")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert defect(tmp_path / "checkpoint-2") is None


def test_the_save_under_way_is_kept(write, tmp_path):
    folder = write(2, until="written")
    remove_unfinished(tmp_path, keep=folder.parent.name)
    assert folder.is_dir()


def test_a_step_saved_twice_is_replaced(write, tmp_path):
    (write(2) / "stray").touch()
    write(2)
    assert not (tmp_path / "checkpoint-2" / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_named_checkpoint_that_is_broken_is_refused(write, tmp_path):
    (write(3) / "optimizer.pt").unlink()
    with pytest.raises(
        CheckpointError, match=r"--resume_from_checkpoint .*checkpoint-3: optimizer.pt is missing; .*latest"
    ):
        check_whole(tmp_path / "checkpoint-3")


def test_a_named_checkpoint_of_another_tool_is_taken_as_it_is(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    check_whole(tmp_path / "checkpoint-3")
