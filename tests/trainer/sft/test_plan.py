"""`triptych plan --sft`: the forecast is of the batch that a run trains, and of the steps that it takes."""

import json
import re

import pytest
from triptych_data import ImageLoader, read_examples
from triptych_data.progress import Reporter
from triptych_trainer.cli import main
from triptych_trainer.commands.planned_conversations import _subject
from triptych_trainer.forecast.conversations import batch_of
from triptych_trainer.options.plan_options import PlanOptions
from triptych_trainer.options.sft_arguments import parse_sft
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.rows import ConversationPreparer, group_batch

TURNS = [
    *(("user", "First <image>. What?"), ("assistant", "red thing")),
    *(("user", "And <image>?"), ("assistant", "blue")),
]
ROWS = [TURNS, [("user", "Look <image>"), ("assistant", "a long answer of words")], TURNS[:2]]


def test_the_planned_batch_is_the_one_that_is_trained(write, model_dir, processor):
    data = write(*ROWS)
    config = parse_sft(["--model", str(model_dir), "--data", str(data), "--output_dir", "out"])
    subject = _subject(config, PlanOptions(), device="cpu", reporter=Reporter(quiet=True))
    with ImageLoader(threads=1) as loader:
        preparer = ConversationPreparer(PromptPreparer(processor, loader=loader), end_ids=subject.end_ids)
        trained = group_batch([preparer(example) for example in read_examples(data)])
        family = preparer.prompts.family
    planned = batch_of(subject.rows, subject, family=family)
    assert planned.prompts == trained.prompts
    assert planned.completions == trained.completions
    assert planned.trained == trained.trained
    assert planned.spans == trained.spans
    shapes = [{str(image["pixel_values"].shape) for image in one.images} for one in (planned, trained)]
    assert shapes[0] == shapes[1]
    assert (len(planned.images), len(trained.images)) == (4, 3), "an image that rows share is counted for each of them"


@pytest.mark.slow
def test_the_command_says_memory_and_the_steps_of_the_run(write, model_dir, tmp_path, capsys):
    data = write(*ROWS, *ROWS)
    words = ["--model", str(model_dir), "--data", str(data), "--per_device_train_batch_size", "2"]
    words += ["--gradient_accumulation_steps", "2", "--num_train_epochs", "2", "--bf16", "false"]
    assert main(["plan", "--sft", *words, "--memory_gib", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"peak [\d.]+ [KM]iB in (training pass|optimizer), on cpu", said)
    assert "training pass" in said
    assert "fits into 1.0 GiB" in said
    (steps,) = re.findall(r"(\d+) steps; a step has 4 conversations", said)
    out = tmp_path / "out"
    assert main(["sft", *words, "--output_dir", str(out), "--quiet", "--save_strategy", "no"]) == 0
    assert json.loads((out / "trainer_state.json").read_text())["global_step"] == int(steps)


def peak(capsys, *words):
    assert main(["plan", "--sft", *words, "--quiet"]) == 0
    (number, unit) = re.search(r"peak ([\d.]+) ([KMG])iB", capsys.readouterr().out).groups()
    return float(number) * {"K": 1, "M": 2**10, "G": 2**20}[unit]


@pytest.mark.slow
def test_checkpointing_packing_and_a_frozen_tower_save_memory(write, model_dir, capsys):
    long, short = [("user", "Look <image>"), ("assistant", "a long answer of words " * 60)], TURNS
    words = ["--model", str(model_dir), "--data", str(write(long, short, short, short)), "--bf16", "false"]
    words += ["--per_device_train_batch_size", "4", "--gradient_checkpointing"]
    whole = peak(capsys, *words, "false")
    assert peak(capsys, *words, "true") < whole
    assert peak(capsys, *words, "false", "--packing") < whole, "no pads"
    assert peak(capsys, *words, "false", "--freeze_vision_modules") < whole


@pytest.mark.parametrize("words", [["--calibrate"], ["--turns", "2"], ["--tflops", "100"]])
def test_options_about_hours_and_turns_are_refused(words, capsys):
    assert main(["plan", "--sft", "--model", "owner/m", "--data", "d/d", *words]) == 2
    assert f"{words[0]}: a plan of sft forecasts memory and steps" in capsys.readouterr().err


def test_rows_that_sft_refuses_stop_the_plan(write, model_dir, capsys):
    assert main(["plan", "--sft", "--model", str(model_dir), "--data", str(write([("user", "no answer")]))]) == 2
    assert "expected a text of the assistant to train on" in capsys.readouterr().err
