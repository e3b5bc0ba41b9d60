"""Two ranks save one checkpoint together, stop together, and go on as if nothing had been."""

import json
import socket

import pytest
from safetensors.torch import load_file
from triptych_trainer.checkpoints.folder import defect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def train(fork, model_dir, write_rows, tmp_path):
    """Run `train` on gloo ranks; ``deed`` is done by the second one only."""
    data = write_rows([2, 1, 0, 0, 1, 0])
    reward = tmp_path / "variety.py"
    reward.write_text(
        "import os, signal\n"
        "calls = 0\n"
        "def variety(completions, **_):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if os.environ['DEED'] == f'term:{calls}':\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return [float(len(set(completion[0]['content']))) for completion in completions]\n"
    )

    def run(name, *options, deed="", num_ranks=2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        ranks = [
            fork(
                *("--model_name_or_path", str(model_dir), "--data", str(data), "--ddp_backend", "gloo"),
                *("--reward", f"{reward}:variety", "--output_dir", str(tmp_path / name), "--num_iterations", "2"),
                *("--num_generations", "2", "--per_device_train_batch_size", "4", "--max_completion_length", "6"),
                *("--learning_rate", "1e-3", "--max_steps", "4", "--save_steps", "100", "--memory_forecast", "false"),
                *options,
                environment={
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                    "WORLD_SIZE": str(num_ranks),
                    "LOCAL_WORLD_SIZE": str(num_ranks),
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "DEED": deed if rank else "",
                },
            )
            for rank in range(num_ranks)
        ]
        return [rank.wait() for rank in ranks]

    return run


def losses(folder):
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in entry.items() if key != "step_time"} for entry in log if "loss" in entry]


def test_sigterm_on_one_rank_stops_both_and_both_go_on_exactly(train, tmp_path):
    whole = train("whole")
    assert [rank.returncode for rank in whole] == [0, 0], whole[0].stderr[-2000:] + whole[1].stderr[-2000:]
    stopped = train("stopped", deed="term:2")  # in step 3, the first of the second cycle
    assert [rank.returncode for rank in stopped] == [0, 0], stopped[0].stderr[-2000:] + stopped[1].stderr[-2000:]
    assert "stopped by SIGTERM after step 3" in stopped[0].stdout
    assert stopped[1].stdout.strip() == "", "the first rank speaks for all"
    checkpoint = tmp_path / "stopped" / "checkpoint-3"
    assert defect(checkpoint) is None
    assert {"cycle_0.pt", "cycle_1.pt", "rng_state_0.pth", "rng_state_1.pth"} <= {p.name for p in checkpoint.iterdir()}
    assert json.loads((checkpoint / "checkpoint.json").read_text())["num_ranks"] == 2
    resumed = train("stopped", "--resume_from_checkpoint", "latest")
    assert [rank.returncode for rank in resumed] == [0, 0], resumed[0].stderr[-2000:] + resumed[1].stderr[-2000:]
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    got = load_file(tmp_path / "stopped" / "model.safetensors")
    assert all(got[name].equal(values) for name, values in expected.items())


def test_a_run_of_one_rank_goes_on_with_two_in_the_middle_of_a_cycle(train, tmp_path):
    """The second rank, which has no cycle file, generated when the first did not, and both waited for ever."""
    (alone,) = train("alone", "--max_steps", "1", num_ranks=1)
    assert alone.returncode == 0, alone.stderr[-2000:]
    checkpoint = tmp_path / "alone" / "checkpoint-1"
    both = train("both", "--resume_from_checkpoint", str(checkpoint))
    assert [rank.returncode for rank in both] == [0, 0], both[0].stderr[-2000:] + both[1].stderr[-2000:]
    assert (
        "checkpoint-1 was written by 1 ranks and goes on with 2: the next steps train on other rows" in both[0].stderr
    )
    assert [entry["step"] for entry in losses(tmp_path / "both")] == [1, 2, 3, 4]
