"""The progress line of a step shows that step's own numbers."""

import math
import re

import pytest
from rich.console import Console
from triptych_data import progress
from triptych_data.progress import Reporter
from triptych_trainer.monitor.step_progress import StepProgress


def lines_of(make_trainer, data, *, monkeypatch, **options):
    """Train and return the lines of the stage, and what the trainer logged."""
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    console = Console(record=True, width=200)
    with Reporter(console=console).stage("GRPO", None) as bar:
        shown = StepProgress(bar)
        trainer = make_trainer(data, per_device_train_batch_size=4, num_generations=2, **options)
        trainer.add_callback(shown)
        trainer.train()
    lines = [line for line in console.export_text().splitlines() if line.startswith("GRPO")]
    return lines, [entry for entry in trainer.state.log_history if "reward" in entry]


def test_every_line_has_the_reward_of_its_step(make_trainer, write_rows, monkeypatch, capsys):
    calls = []

    def counting(completions, **_):
        calls.append(None)
        return [float(len(calls))] * len(completions)

    lines, _ = lines_of(make_trainer, write_rows([0, 0]), monkeypatch=monkeypatch, rewards=[counting], max_steps=3)
    said = dict(re.search(r"(\d)/3 reward (\d\.\d+)", line).groups() for line in lines if "reward" in line)
    assert said == {"1": "1.000", "2": "2.000", "3": "3.000"}


@pytest.mark.slow
def test_a_step_that_logs_nothing_shows_no_number(make_trainer, write_rows, monkeypatch, capsys):
    lines, logged = lines_of(make_trainer, write_rows([0, 0]), monkeypatch=monkeypatch, max_steps=3, logging_steps=2)
    by_step = {line.split("/")[0]: "reward" in line for line in lines}
    assert by_step == {"GRPO: 0": False, "GRPO: 1": False, "GRPO: 2": True, "GRPO: 3": True}
    assert [entry["step"] for entry in logged] == [2, 3]


def test_a_step_without_any_reward_says_so(make_trainer, write_rows, monkeypatch, capsys):
    def none(completions, **_):
        return [None] * len(completions)

    lines, logged = lines_of(make_trainer, write_rows([0, 0]), monkeypatch=monkeypatch, rewards=[none], max_steps=1)
    assert any("1/1 reward -  length" in line for line in lines)
    assert logged[0]["reward"] is None or math.isnan(logged[0]["reward"])
