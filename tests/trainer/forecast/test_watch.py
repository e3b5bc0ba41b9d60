"""A run says its forecast, measures, and goes on where no forecast can be made."""

import json
import os
import re

import pytest
import torch
from planned_runs import run_config
from triptych_data import read_examples
from triptych_trainer.cli import main
from triptych_trainer.demo import build_model
from triptych_trainer.forecast import checkpointing
from triptych_trainer.forecast.watch import forecast_run
from triptych_trainer.models.load import load_processor


@pytest.fixture
def options(model_dir, write_rows, tmp_path):
    return [
        *("train", "--model_name_or_path", str(model_dir), "--data", str(write_rows([1, 2, 5, 2]))),
        *("--num_generations", "2", "--per_device_train_batch_size", "4", "--max_completion_length", "4"),
        *("--max_steps", "3", "--save_strategy", "no", "--output_dir", str(tmp_path / "out"), "--rollouts", "false"),
    ]


@pytest.mark.slow
def test_a_run_holds_its_forecast_against_what_it_took(options, tmp_path, capsys, monkeypatch):
    forecast, processes = checkpointing.forecast, tmp_path / "processes"

    def noted(subject):
        with processes.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        return forecast(subject)

    monkeypatch.setattr(checkpointing, "forecast", noted)
    assert main(options) == 0
    (process,) = set(processes.read_text().split())
    assert int(process) != os.getpid(), "what a trace replaces (attention, among others) would be replaced in the run"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory:")]
    assert len(lines) == 2
    assert "rows.jsonl:3, id row-2: 5 images" in lines[0]
    assert "step 2 added to resident memory" in lines[1]
    entry = json.loads((tmp_path / "out" / "run.json").read_text())["memory"]
    assert entry["measured_step"] == 2
    assert entry["forecast_of_measured_bytes"] > 0


@pytest.mark.slow
def test_it_can_be_switched_off(options, tmp_path, capsys):
    assert main([*options, "--memory_forecast", "false"]) == 0
    assert "memory:" not in capsys.readouterr().out
    assert "memory" not in json.loads((tmp_path / "out" / "run.json").read_text())


def test_what_a_forecast_replaces_is_never_replaced_in_the_process_of_the_run(model_dir, write_rows, monkeypatch):
    def forecast(subject):
        torch.nn.functional.scaled_dot_product_attention = torch.random.manual_seed = None
        torch.rand(3)
        raise RuntimeError(f"in process {os.getpid()}")

    stock, before = torch.nn.functional.scaled_dot_product_attention, torch.get_rng_state()
    monkeypatch.setattr("triptych_trainer.forecast.checkpointing.forecast", forecast)
    said, examples = [], read_examples(write_rows([1, 2]))
    processor = load_processor(str(model_dir))
    assert forecast_run(build_model(0), processor, examples=examples, config=run_config(), say=said.append) is None
    (line,) = said
    found = re.fullmatch(r"memory: no forecast \(RuntimeError: in process (\d+)\)", line)
    assert int(found[1]) != os.getpid()
    assert torch.nn.functional.scaled_dot_product_attention is stock
    assert torch.equal(torch.get_rng_state(), before)


def test_a_forecast_that_cannot_be_made_says_why_and_nothing_more(model_dir, write_rows):
    examples = list(read_examples(write_rows([1, 2])))
    said = []
    processor = load_processor(str(model_dir))
    processor.tokenizer.chat_template = processor.chat_template = "{{ raise_exception('no such turn') }}"
    assert forecast_run(build_model(0), processor, examples=examples, config=run_config(), say=said.append) is None
    assert len(said) == 1
    assert said[0].startswith("memory: no forecast (")
    assert "no such turn" in said[0]
