"""What can end a run, done to real `train` processes: kill -9, SIGTERM, a full disk, a reward that raises."""

import json

import pytest
from safetensors.torch import load_file
from triptych_trainer.checkpoints.folder import checkpoints, defect

pytestmark = pytest.mark.slow
TIMES = ("step_time",)
KILLED_WHILE_SAVING = """
import signal
save = torch.save

def save_or_die(value, path, *rest, **options):
    save(value, path, *rest, **options)
    if "checkpoint-2" in str(path):
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = save_or_die
"""


def losses(folder):
    """Every logged number of every step, but the times."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in log if "loss" in entry]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith((".", "checkpoint")))


def test_kill_9_in_mid_step_then_resume_equals_the_uninterrupted_run(train, scored, tmp_path):
    # steps 1-2, 3-4 and 5-6 share their completions; checkpoint-3 is saved in the middle of such a pair
    options = ("--max_steps", "6", "--num_iterations", "2", "--save_steps", "3")
    whole = train("whole", *options)
    assert whole.returncode == 0, whole.stderr[-2000:]
    killed = train("broken", *options, deed="kill:3")
    assert killed.returncode == -9
    assert names(tmp_path / "broken") == ["checkpoint-3"]
    resumed = train("broken", *options, "--resume_from_checkpoint", "latest")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    first, second, cut = scored("whole")
    assert scored("broken") == [first, second, cut, cut], "the step that was cut is sampled again, the same"
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    got = load_file(tmp_path / "broken" / "model.safetensors")
    assert got.keys() == expected.keys()
    assert all(got[name].equal(values) for name, values in expected.items())


def test_sigterm_finishes_the_step_saves_and_leaves_with_0(train, tmp_path):
    stopped = train("out", "--max_steps", "4", "--save_steps", "100", deed="term:2")
    assert stopped.returncode == 0, stopped.stderr[-2000:]
    assert (
        "stopped by SIGTERM after step 2, which is saved; go on with --resume_from_checkpoint latest" in stopped.stdout
    )
    assert names(tmp_path / "out") == ["checkpoint-2"]
    assert not (tmp_path / "out" / "model.safetensors").exists(), "no half-trained model under the final name"
    resumed = train("out", "--max_steps", "4", "--save_steps", "100", "--resume_from_checkpoint", "latest")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert [entry["step"] for entry in losses(tmp_path / "out")] == [1, 2, 3, 4]


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays_whole(train, tmp_path):
    failed = train("out", "--max_steps", "3", "--save_steps", "1", deed="full:2")
    assert failed.returncode == 2
    lines = [line for line in failed.stderr.splitlines() if line.startswith("train: error:")]
    assert len(lines) == 1
    assert "checkpoint-2 cannot be written to" in lines[0]
    assert "MiB free: " in lines[0]
    assert "checkpoint-1 is whole" in lines[0]
    assert "--resume_from_checkpoint latest" in lines[0]
    assert "Traceback" not in failed.stderr
    assert names(tmp_path / "out") == ["checkpoint-1"]
    assert defect(tmp_path / "out" / "checkpoint-1") is None


def test_kill_9_while_saving_leaves_the_checkpoint_before_it(train, tmp_path):
    options = ("--max_steps", "3", "--save_steps", "1")
    assert train("out", *options, before=KILLED_WHILE_SAVING).returncode == -9
    left = names(tmp_path / "out")
    assert left[-1] == "checkpoint-1"
    assert [name for name in left if name.startswith(".unfinished-2-")] == left[:-1] != []
    resumed = train("out", *options, "--resume_from_checkpoint", "latest")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert f"going on from {tmp_path / 'out' / 'checkpoint-1'}" in resumed.stdout
    assert names(tmp_path / "out") == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert all(defect(folder) is None for folder in checkpoints(tmp_path / "out"))


def test_a_reward_that_raises_is_one_line_with_function_sample_and_completion(train, scored, tmp_path):
    failed = train("out", "--max_steps", "3", "--save_steps", "1", "--shuffle_dataset", "false", deed="raise:2")
    assert failed.returncode == 2
    lines = [line for line in failed.stderr.splitlines() if line.startswith("train: error:")]
    assert len(lines) == 1
    texts = next(texts for ids, texts in scored("out") if ids == ["row-2", "row-2", "row-3", "row-3"])
    assert "reward 'variety' raised ZeroDivisionError: no such word on sample row-3 (" in lines[0]
    assert f"rows.jsonl:4), completion 2 of 4: {texts[2]!r};" in lines[0]
    assert "Traceback" not in failed.stderr
    assert names(tmp_path / "out") == ["checkpoint-1"]
