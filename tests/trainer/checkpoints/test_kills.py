"""Signal 9 at random moments, half of them inside a save: what is resumed equals the run that nobody killed.

CI does a few; `make kill-check` does 200, or `KILLS=N`. `TRIPTYCH_SLOW_SAVE_SECONDS` is how long a save takes (0.4
seconds with `KILLS`, else 0.2): the child processes sleep before each file that they write or rename. `KILL_SEED`
repeats the moments.
"""

import json
import os
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.torch import load_file
from triptych_trainer.checkpoints.folder import UNFINISHED, checkpoints, defect
from triptych_trainer.checkpoints.lock import LOCK
from triptych_trainer.rollouts.read import read_visits

KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("KILL_SEED", time.time_ns() % 10**6 if "KILLS" in os.environ else 0))
SLOW_SAVE_SECONDS = float(os.environ.get("TRIPTYCH_SLOW_SAVE_SECONDS", "0.4" if "KILLS" in os.environ else "0.2"))
TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")
OPTIONS = (
    *("--max_steps", "5", "--num_iterations", "2", "--save_steps", "1", "--save_total_limit", "2"),
    *("--logging_steps", "2", "--rollouts", "true"),
)
SLOW_SAVES = f"""
import time
from pathlib import Path

PAUSE = {SLOW_SAVE_SECONDS / 30}  # a save writes, forces to disk and renames about as often


def slowly(function):
    def call(*arguments, **options):
        time.sleep(PAUSE)
        return function(*arguments, **options)

    return call


torch.save, os.fsync, os.replace = slowly(torch.save), slowly(os.fsync), slowly(os.replace)
Path.rename, Path.unlink = slowly(Path.rename), slowly(Path.unlink)
"""


@dataclass(kw_only=True)
class Tally:
    """What happened to the killed runs."""

    kills: int = 0
    in_save: int = 0
    """Kills at a moment when a save was under way."""
    from_nothing: int = 0
    """Kills before the first checkpoint had its name."""
    equal_runs: int = 0
    lives: list[float] = field(default_factory=list)


def log_of(folder: Path) -> list[dict[str, float]]:
    """Every number of the log, train_loss among them, but the times."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in entry.items() if key not in TIMES} for entry in log]


def rollouts_of(folder: Path) -> list[tuple[object, ...]]:
    return sorted((v.step, v.sample_id, tuple(v.totals), tuple(v.advantages)) for v in read_visits(folder))


def assert_same_run(folder: Path, whole: Path, *, last: int = 5) -> None:
    assert log_of(folder) == log_of(whole)
    assert rollouts_of(folder) == rollouts_of(whole)
    expected, got = (load_file(path / "model.safetensors") for path in (whole, folder))
    assert got.keys() == expected.keys()
    assert all(got[name].equal(values) for name, values in expected.items())
    assert [path.name for path in checkpoints(folder)] == [f"checkpoint-{last}", f"checkpoint-{last - 1}"]
    assert all(defect(path) is None for path in checkpoints(folder))
    assert not list(folder.glob(f"{UNFINISHED}*")), "nothing is left of the interrupted saves"
    assert not (folder / LOCK).exists()


def saves_under_way(folder: Path) -> bool:
    return any(folder.glob(f"{UNFINISHED}*"))


def wait_for_moment(process, folder: Path, *, chance: random.Random, typical_seconds: float) -> None:
    """Wait until the moment of the kill, inside a save or anywhere, or until the process has ended."""
    started = time.monotonic()
    until = started + chance.uniform(0, typical_seconds)
    if chance.random() < 0.5:
        saves_to_see = chance.randint(1, 3)
        while process.is_alive() and saves_to_see and time.monotonic() < started + 3 * typical_seconds:
            while process.is_alive() and not saves_under_way(folder):
                time.sleep(0.002)
            saves_to_see -= 1
            while saves_to_see and process.is_alive() and saves_under_way(folder):
                time.sleep(0.002)
        until = time.monotonic() + chance.uniform(0, SLOW_SAVE_SECONDS)
    while process.is_alive() and time.monotonic() < until:
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * KILLS)
def test_runs_that_are_killed_at_random_moments_end_as_the_run_that_nobody_killed(start_train, tmp_path):
    chance, tally, whole, folder = random.Random(SEED), Tally(), tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    ended = start_train("whole", *OPTIONS, before=SLOW_SAVES).wait()
    assert ended.returncode == 0, ended.stderr[-3000:]
    typical_seconds = time.monotonic() - started
    while tally.kills < KILLS or folder.exists():
        has_checkpoint = bool(checkpoints(folder)) or any(folder.glob(f"{UNFINISHED}*/checkpoint-*/checkpoint.json"))
        resume = ("--resume_from_checkpoint", "latest") if has_checkpoint else ()
        life = start_train("killed", *OPTIONS, *resume, before=SLOW_SAVES)
        if tally.kills < KILLS:
            wait_for_moment(life.process, folder, chance=chance, typical_seconds=typical_seconds)
            in_save, named = saves_under_way(folder), bool(checkpoints(folder))
            life.process.kill()
        ended = life.wait()
        if ended.returncode == -9:
            tally.kills += 1
            tally.in_save += in_save
            tally.from_nothing += not named
            continue
        assert ended.returncode == 0, f"seed {SEED}, after {tally}: {ended.stdout[-2000:]}\n{ended.stderr[-3000:]}"
        assert_same_run(folder, whole)
        tally.equal_runs += 1
        shutil.rmtree(folder)
    print(
        f"\n{tally.kills} kills (seed {SEED}), {tally.in_save} of them inside a save, {tally.from_nothing} before the "
        f"first checkpoint; {tally.equal_runs} runs ended, each equal to the run that nobody killed"
    )
    assert tally.equal_runs > 0


WORLD = '''
import os
import signal

from PIL import Image

DRIFT = int(os.environ.get("DRIFT", "0"))


class Boxes:
    """An environment that may drift from process to process, and dies at one of its calls."""

    calls = 0

    def reset(self, example_id="", **row):
        shade = sum(map(ord, example_id)) % 200
        return [{"type": "image", "image": Image.new("RGB", (28, 28), (shade, 9, 9))}]

    def look(self, side: int) -> list:
        """Look closer.

        Args:
            side: how large.
        """
        Boxes.calls += 1
        if os.environ.get("DEED") == f"call:{Boxes.calls}":
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"type": "image", "image": Image.new("RGB", (side, 56), (9, side, 9 + DRIFT))}]
'''
CALLS = """
import signal

import torch
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList
from triptych_trainer.grpo.trl import building
from triptych_trainer.grpo.trl import trainer as module


class Call(LogitsProcessor):
    # two tokens that are really sampled, then a call
    def __init__(self, rows):
        self.rows, self.step = rows, -2

    def __call__(self, input_ids, scores):
        self.step += 1
        if self.step <= 0:
            return scores
        wanted = torch.tensor([row[min(self.step, len(row)) - 1] for row in self.rows] * len(scores))[: len(scores)]
        return torch.full_like(scores, -torch.inf).scatter(1, wanted[:, None], 0.0)


generate, loss, passes = GenerationMixin.generate, module.policy_loss, [0]


def calling(self, *arguments, logits_processor=None, **options):
    texts = ['<tool_call>{"name": "look", "arguments": {"side": %d}}</tool_call>' % side for side in (28, 56)]
    rows = [[*TOKENIZER[0](text)["input_ids"], TOKENIZER[0].eos_token_id] for text in texts]
    processors = LogitsProcessorList([*(logits_processor or []), Call(rows)])
    return generate(self, *arguments, logits_processor=processors, **options)


def dying(*arguments, **options):
    passes[0] += 1
    value = loss(*arguments, **options)
    if os.environ["DEED"] == f"policy:{passes[0]}":
        assert value.requires_grad, "in the policy pass: forwarded, and not back-propagated yet"
        os.kill(os.getpid(), signal.SIGKILL)
    return value


TOKENIZER, player = [], building.player


def knowing(model, **options):
    TOKENIZER.append(options["preparer"].processor.tokenizer)
    return player(model, **options)


GenerationMixin.generate, module.policy_loss, building.player = calling, dying, knowing
"""


@pytest.mark.slow
def test_rollouts_with_images_that_are_killed_in_a_call_in_scoring_and_in_the_policy_pass_go_on_the_same(
    start_train, tmp_path
):
    world = tmp_path / "world.py"
    world.write_text(WORLD)
    options = (
        *("--max_steps", "5", "--num_iterations", "2", "--save_steps", "1", "--save_total_limit", "2"),
        *("--environment", f"{world}:Boxes", "--max_tool_calling_iterations", "1", "--max_completion_length", "400"),
        *("--logging_steps", "2", "--rollouts", "true"),
    )
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    ended = start_train("whole", *options, before=CALLS).wait()
    assert ended.returncode == 0, ended.stderr[-3000:]
    resume: tuple[str, ...] = ()
    # the second call of the second generation: the first one's image has arrived
    for deed, left in (("call:6", 2), ("kill:1", 2), ("policy:2", 3)):
        ended = start_train("killed", *options, *resume, deed=deed, before=CALLS).wait()
        assert ended.returncode == -9, ended.stderr[-3000:]
        assert checkpoints(folder)[0].name == f"checkpoint-{left}", deed
        resume = ("--resume_from_checkpoint", "latest")
    last = copied(folder, tmp_path / "drifted")
    ended = start_train("killed", *options, *resume, before=CALLS).wait()
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "something else than before" not in ended.stdout
    assert_same_run(folder, whole)
    ended = start_train(last.name, *options, *resume, before=f"os.environ['DRIFT'] = '1'\n{CALLS}").wait()
    (line,) = [line for line in ended.stdout.splitlines() if "something else than before" in line]
    assert "turn 1: the same call of `look` is answered with something else than before" in line
    assert "are not those of an unbroken run" in line


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(LOCK))
    return target
