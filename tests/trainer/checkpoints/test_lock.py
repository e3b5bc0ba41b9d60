"""One run at a time in an output folder."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.checkpoints.lock import LOCK, _process_start, output_lock


@pytest.fixture
def dead_pid():
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def write_lock(output, **holder):
    output.mkdir(exist_ok=True)
    (output / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), **holder}))


def test_a_second_run_is_refused_with_process_and_host_and_the_folder_is_free_afterwards(tmp_path):
    with output_lock(tmp_path / "out"):
        with (
            pytest.raises(CheckpointError) as caught,
            output_lock(tmp_path / "out"),
        ):
            pass
        assert f"{tmp_path / 'out'} is in use by process {os.getpid()} on host {socket.gethostname()} since " in str(
            caught.value
        )
        assert "name another --output_dir" in str(caught.value)
        assert (tmp_path / "out" / LOCK).is_file(), "the refused run leaves the lock of the other one"
    with output_lock(tmp_path / "out"):
        pass


def test_the_lock_of_a_dead_process_is_taken_over_and_said(tmp_path, dead_pid):
    write_lock(tmp_path / "out", pid=dead_pid)
    said = []
    with output_lock(tmp_path / "out", say=said.append):
        assert json.loads((tmp_path / "out" / LOCK).read_text())["pid"] == os.getpid()
    assert said == [
        f"the lock of process {dead_pid}, which no longer runs, is taken over: "
        f"it ended without removing {tmp_path / 'out' / LOCK}"
    ]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc to know when a process started")
def test_another_process_with_the_number_of_the_dead_one_does_not_count(tmp_path):
    write_lock(tmp_path / "out", process_started="another boot:1")
    said = []
    with output_lock(tmp_path / "out", say=said.append):
        pass
    assert len(said) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc to know a killed child from a live one")
def test_a_killed_process_that_nobody_has_waited_for_is_dead(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    write_lock(tmp_path / "out", pid=child.pid, process_started=_process_start(child.pid))
    with pytest.raises(CheckpointError, match=f"in use by process {child.pid}"), output_lock(tmp_path / "out"):
        pass
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
    said = []
    with output_lock(tmp_path / "out", say=said.append):
        assert f"process {child.pid}, which no longer runs" in said[0]
    child.communicate()


def test_a_lock_of_another_host_is_not_judged_from_here(tmp_path, dead_pid):
    write_lock(tmp_path / "out", pid=dead_pid, host="elsewhere")
    with (
        pytest.raises(CheckpointError, match=r"cannot see whether it still runs; .* remove .*run\.lock if that run"),
        output_lock(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out" / LOCK).is_file()


@pytest.mark.parametrize("content", ["{", "[]", '{"pid": "7"}'])
def test_a_lock_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.lock cannot be read as a lock; remove it"), output_lock(tmp_path):
        pass


def test_an_empty_lock_is_one_that_a_kill_left_before_its_first_word(tmp_path):
    (tmp_path / LOCK).touch()
    with output_lock(tmp_path):
        assert (tmp_path / LOCK).stat().st_size > 0


def test_of_runs_that_start_together_one_gets_the_folder(tmp_path, dead_pid):
    write_lock(tmp_path, pid=dead_pid)
    barrier, release, got, refused = threading.Barrier(8), threading.Event(), [], []

    def start():
        barrier.wait()
        try:
            with output_lock(tmp_path, say=lambda text: None):
                got.append(1)
                release.wait(10)
        except CheckpointError:
            refused.append(1)
            if len(refused) == 7:
                release.set()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def test_a_folder_that_was_only_locked_is_removed_again(tmp_path):
    with output_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).is_file()
    assert list(tmp_path.iterdir()) == []
    with output_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "model").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            CheckpointError, match=r"--output_dir .*file/out: expected a folder that can be written, got Not a"
        ),
        output_lock(tmp_path / "file" / "out"),
    ):
        pass
    assert (tmp_path / "file").is_file()
