"""Real `train` processes on a tiny model, with rewards that can kill, signal, limit or break them at a given step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REWARD = '''
"""Counts different characters; notes what it scored; does {deed} at call {at} of this process, once."""

import json
import os
import resource
import signal
from pathlib import Path

HERE = Path(__file__).parent
calls = 0


def variety(completions, example_id, **_):
    global calls
    calls += 1
    texts = [completion[0]["content"] for completion in completions]
    with open(os.environ["SCORED"], "a") as file:
        file.write(json.dumps([example_id, texts]) + "\\n")
    deed, _, at = os.environ.get("DEED", "none:0").partition(":")
    if calls == int(at):
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if deed == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    if deed == "raise" and calls >= int(at) and "row-3" in example_id:
        raise ZeroDivisionError("no such word")
    return [float(len(set(text))) for text in texts]
'''


@pytest.fixture
def start_train(
    fork: Callable[..., Any], model_dir: Path, write_rows: Callable[..., Path], tmp_path: Path
) -> Callable[..., Any]:
    """Start `train` on six prompts of 0 to 5 images in a process of its own; ``before`` is code that it runs first."""
    data = write_rows([0, 1, 2, 5, 1, 0])
    reward = tmp_path / "variety.py"
    reward.write_text(REWARD)

    def start(name: str, *options: str, deed: str = "none:0", before: str = "") -> Any:
        return fork(
            *("--model_name_or_path", str(model_dir), "--data", str(data)),
            *("--reward", f"{reward}:variety", "--output_dir", str(tmp_path / name), "--seed", "7"),
            *("--num_generations", "2", "--per_device_train_batch_size", "4", "--max_completion_length", "6"),
            *("--learning_rate", "1e-3", "--rollouts", "false", "--memory_forecast", "false", *options),
            environment={"DEED": deed, "SCORED": str(tmp_path / f"{name}.scored.jsonl")},
            before=before,
        )

    return start


@pytest.fixture
def train(start_train: Callable[..., Any]) -> Callable[..., Any]:
    """Run `train` to its end in a process of its own."""
    return lambda name, *options, **more: start_train(name, *options, **more).wait()


@pytest.fixture
def scored(tmp_path: Path) -> Callable[[str], list[Any]]:
    """What the reward of a run saw, call by call: example ids and completions."""

    def read(name: str) -> list[Any]:
        return [json.loads(line) for line in (tmp_path / f"{name}.scored.jsonl").read_text().splitlines()]

    return read
