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
    rotate,
    run_id_of,
    seal,
)


@pytest.fixture
def write(tmp_path):
    """Write a checkpoint as a run does; ``until`` ends early: "written" or "sealed"."""

    def write(step, *, until="published", run=None):
        folder = tmp_path / name_aside(step) / f"checkpoint-{step}"
        (folder / "shards").mkdir(parents=True)
        torch.save({"step": step}, folder / "optimizer.pt")
        (folder / "shards" / "0.bin").write_bytes(bytes(100 * step))
        if until == "written":
            return folder
        seal(folder, step=step, num_ranks=1, run=run and {"id": run})
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
        (
            lambda folder: (folder / "checkpoint.json").write_text('{"files": {"a": 3}}'),
            "its checkpoint.json cannot be read",
        ),
        (lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff"), "its checkpoint.json cannot be read"),
        (
            lambda folder: (folder / "shards" / "0.bin").write_bytes(bytes(299) + b"1"),
            "shards/0.bin has the size that was written, but not the bytes: its digest differs from the manifest's",
        ),
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


def test_other_bytes_of_the_same_size_are_found_when_a_checkpoint_is_named(write, tmp_path):
    folder = write(3)
    content = bytearray((folder / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "optimizer.pt").write_bytes(content)
    assert defect(folder, deep=False) is None
    with pytest.raises(CheckpointError, match=r"optimizer\.pt has the size that was written, but not the bytes"):
        check_whole(folder)


def test_the_latest_is_that_of_the_run_and_another_ones_is_named(write, tmp_path):
    write(2, run="mine")
    write(4, run="other")
    assert run_id_of(tmp_path / "checkpoint-4") == "other"
    assert latest_checkpoint(tmp_path, run="mine") == (
        tmp_path / "checkpoint-2",
        ["checkpoint-4 belongs to run other, not to run mine of this folder, and is passed over"],
    )
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-4", [])


@pytest.mark.parametrize(
    ("limit", "keep", "left"),
    [
        (None, (), [1, 2, 3, 4]),
        (0, (), [1, 2, 3, 4]),
        (1, (), [4]),
        (2, (), [3, 4]),
        (2, (2,), [2, 4]),
        (1, (2,), [2, 4]),
        (9, (), [1, 2, 3, 4]),
    ],
)
def test_the_oldest_go_first_and_the_best_and_those_of_others_stay(write, tmp_path, limit, keep, left):
    for step in (4, 1, 3, 2):  # by number, not by time
        write(step, run="mine")
    write(9, run="other")
    (tmp_path / "checkpoint-of-a-friend").mkdir()
    rotate(tmp_path, limit=limit, run="mine", keep=[tmp_path / f"checkpoint-{step}" for step in keep])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"checkpoint-{step}" for step in left), "checkpoint-9", "checkpoint-of-a-friend"]
