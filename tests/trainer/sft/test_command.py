"""`triptych sft` on files: the loss of the stock forward, packed or padded, and a run that is resumed."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText
from triptych_data import ImageLoader, read_examples
from triptych_trainer.cli import main
from triptych_trainer.options.sft_arguments import parse_sft
from triptych_trainer.options.sft_options import TRL_OPTIONS
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.rows import ConversationPreparer
from triptych_trainer.verification.stock_inputs import stock_inputs

TURNS = [
    *(("user", "First <image>. What?"), ("assistant", "red thing")),
    *(("user", "And <image>?"), ("assistant", "blue")),
]
ROWS = [TURNS, [("user", "Look <image>"), ("assistant", "a long answer of words")], TURNS[:2], TURNS]
COMMON = ("--seed", "3", "--learning_rate", "1e-3", "--gradient_checkpointing", "false", "--quiet")


@pytest.fixture
def sft(model_dir, tmp_path, capsys):
    """Run the command; returns its exit code, its folder, and what it said on standard error."""

    def sft(data, *words, out="out"):
        folder = tmp_path / out
        named = ("--model", str(model_dir), "--data", str(data), "--output_dir", str(folder))
        code = main(["sft", *named, *COMMON, *words])
        return code, folder, capsys.readouterr().err

    return sft


def losses(folder):
    state = json.loads((folder / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def stock_loss(model_dir, processor, data):
    """The mean over the trained tokens of all rows, by the stock forward of each row."""
    model = AutoModelForImageTextToText.from_pretrained(model_dir).train()
    found = []
    with ImageLoader(threads=1) as loader, torch.no_grad():
        prompts = PromptPreparer(processor, loader=loader)
        preparer = ConversationPreparer(prompts, end_ids={processor.tokenizer.eos_token_id})
        for row in map(preparer, read_examples(data)):
            logps = model(**stock_inputs(row.prompt, prompts)).logits[0].log_softmax(-1)
            found += [-logps[k - 1, row.prompt.ids[k]] for k in range(len(row.trained)) if row.trained[k]]
    return float(torch.stack(found).mean())


def test_a_step_has_the_loss_of_the_stock_forward_packed_or_padded(sft, write, model_dir, processor):
    data = write(*ROWS)
    expected = stock_loss(model_dir, processor, data)
    whole = ("--per_device_train_batch_size", "4", "--max_steps", "2", "--save_strategy", "no")
    code, padded, _ = sft(data, *whole, "--eval_data", str(data), "--eval_strategy", "steps", "--eval_steps", "2")
    assert code == 0
    assert losses(padded)[0] == pytest.approx(expected, abs=1e-5)
    _, packed, _ = sft(data, *whole, "--packing", out="packed")
    assert losses(packed) == pytest.approx(losses(padded), abs=1e-5)
    parts = ("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4", "--max_steps", "2")
    _, accumulated, _ = sft(data, *parts, "--save_strategy", "no", "--use_peft", "--lora_r", "4", out="parts")
    assert losses(accumulated)[0] == pytest.approx(expected, abs=1e-5), "tokens count the same in every part"
    assert (accumulated / "adapter_model.safetensors").is_file()
    card = (padded / "README.md").read_text()
    assert "supervised fine-tuning on the turns of the assistant" in card
    page = (padded / "report.html").read_text(encoding="utf-8")
    assert "<dt>lowest loss of held-out rows</dt>" in page
    assert "panel-loss" in page
    assert "eval_loss" in card


@pytest.mark.slow
def test_a_run_that_goes_on_equals_one_that_never_ended(sft, write):
    data = write(*ROWS)
    words = ("--per_device_train_batch_size", "2", "--max_steps", "3", "--save_steps", "2", "--packing")
    first = sft(data, *words, out="other")[1]
    _, again, _ = sft(data, *words, "--resume_from_checkpoint", str(first / "checkpoint-2"), out="again")
    assert losses(again)[-1:] == losses(first)[-1:]
    one, other = (load_file(folder / "model.safetensors") for folder in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [json.loads((folder / "trainer_state.json").read_text())["log_history"] for folder in (first, again)]
    assert logs[0][-2]["num_tokens"] == logs[1][-2]["num_tokens"]


@pytest.mark.slow
def test_rows_without_an_answer_stop_the_run_or_are_left_out(sft, write):
    data = write(*ROWS, [("user", "a question alone")])
    code, _, said = sft(data, "--max_steps", "1")
    assert code == 2
    assert "rows.jsonl:5" in said
    assert "expected a text of the assistant to train on" in said
    code, folder, _ = sft(data, "--max_steps", "1", "--on_bad", "skip", "--max_bad", "1", "--save_strategy", "no")
    assert code == 0
    assert "rows.jsonl:5" in (folder / "quarantine.jsonl").read_text()


def test_options_that_nothing_reads_are_refused(tmp_path, capsys):
    for words, said in (
        (["--assistant_only_loss"], "--assistant_only_loss True: the tokens of the assistant's turns are trained"),
        (["--dataset_text_field", "x"], "--dataset_text_field x: the rows are read as `triptych check` reads them"),
        (["--max_length", "0"], "--max_length expects 1 or more, got 0"),
        (["--reward", "accuracy"], "there is no option --reward"),
    ):
        assert main(["sft", "--model", "owner/m", "--data", "d/d", "--output_dir", str(tmp_path), *words]) == 2
        assert said in capsys.readouterr().err


def test_the_defaults_that_the_help_says_are_those_of_a_run(tmp_path):
    config = parse_sft(["--model", "m", "--data", "d", "--output_dir", str(tmp_path)])
    for name, (_, _, default) in TRL_OPTIONS.items():
        if name != "output_dir":
            part = config.sft if hasattr(config.sft, name) else config.model
            assert getattr(part, name) == default, name
