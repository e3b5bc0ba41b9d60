"""The help of every command: there at once, the same options in all, and true defaults."""

import importlib
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from triptych_data.limit import LIMIT, num_first
from triptych_data.option_parser import option_names
from triptych_data.options import DataOptions, PromptOptions
from triptych_data.other_names import KNOWN, NAMES
from triptych_data.preview.options import PreviewOptions
from triptych_trainer.cli import COMMANDS
from triptych_trainer.cli import main as triptych
from triptych_trainer.options.arguments import parse_run, run_parser
from triptych_trainer.options.help import PARSERS
from triptych_trainer.options.plan_options import PlanOptions
from triptych_trainer.options.report_options import ReportOptions
from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.sampling_options import SamplingOptions
from triptych_trainer.options.train_help import RARE as RARE_OF_GRPO
from triptych_trainer.options.train_help import TRL_OPTIONS
from triptych_trainer.options.training_help import RARE
from triptych_trainer.report.build import MAX_GROUPS
from trl import GRPOConfig, ModelConfig

SHARED = [option.name for part in (DataOptions, PromptOptions) for option in fields(part)]
EVERY_HELP = """
import sys
from triptych_trainer.cli import COMMANDS, main
for words in [["--help"], ["--version"], ["env"], *([name, "--help"] for name in COMMANDS)]:
    assert main(words) == 0, words
    heavy = {"torch", "transformers", "trl", "datasets", "numpy", "rich", "pyarrow"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""


def help_of(command, capsys):
    capsys.readouterr()
    assert triptych([command, "--help"]) == 0
    return capsys.readouterr().out


def parser_of(command):
    """The options that a command knows, whether its help shows them or not."""
    return option_names(importlib.import_module(PARSERS[command]).parser())


def test_no_help_imports_what_takes_seconds():
    subprocess.run([sys.executable, "-c", EVERY_HELP], check=True, capture_output=True, text=True)


def test_what_other_trainers_call_an_option_leads_to_one_that_exists():
    known = {name for command in PARSERS for name in parser_of(command)} | set(option_names(run_parser()))
    assert {f"--{name}" for names in NAMES for name in names} <= known
    assert all(here != (name,) for name, here in KNOWN.items())


def test_every_command_has_help():
    assert set(PARSERS) == set(COMMANDS)


@pytest.mark.parametrize("command", ["check", "preview", "plan", "eval", "rollout", "sft", "train"])
def test_the_shared_options_have_the_same_names_everywhere(command, capsys):
    text = help_of(command, capsys)
    known = parser_of(command)
    for name in ["model_name_or_path", "model", *SHARED]:
        assert f"--{name}" in known, name
        assert re.search(rf"--{name}\b", text) or (command in ("train", "sft") and name in RARE), name
    if command not in ("plan", "train"):  # where it is TRL's
        assert "--chat_template_kwargs" in text


def test_train_shows_its_own_options_on_one_screen_with_true_defaults(capsys):
    text = help_of("train", capsys)
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 120
    everything = run_parser().format_help()
    for option in fields(RunArguments):
        shown = re.search(rf"--(\[no_\])?{option.name}\b", text)
        assert bool(shown) != (option.name in (*RARE, *RARE_OF_GRPO)), option.name
        assert f"--{option.name}" in everything
    for demo in ("0.0004", "outputs/demo", "cosine_with_min_lr"):
        assert demo not in text
    assert "0.0004" not in everything


def test_the_defaults_that_are_said_of_trls_options_are_trls(tmp_path):
    known = {option.name for part in (GRPOConfig, ModelConfig) for option in fields(part)}
    config = parse_run(["--model", "m", "--data", "d", "--output_dir", str(tmp_path)])
    for name, (_, _, default) in TRL_OPTIONS.items():
        assert name in known
        if name != "output_dir":
            part = config.grpo if hasattr(config.grpo, name) else config.model
            assert getattr(part, name) == default, name


def test_the_opposite_of_an_option_has_a_text_of_its_own():
    texts = {name: action.help for action in run_parser()._actions for name in action.option_strings}
    assert texts["--no_rollouts"] == "Switch off --rollouts."
    assert all(text.startswith("Switch off --") for name, text in texts.items() if name.startswith("--no_"))


def test_what_the_report_shows_by_default_is_said():
    assert ReportOptions().max_groups == MAX_GROUPS


def test_a_misspelt_command_is_told_its_neighbour(capsys):
    assert triptych(["chek"]) == 2
    assert capsys.readouterr().err.startswith("triptych: error: there is no command 'chek'; did you mean check?")


@pytest.mark.parametrize("options", [PreviewOptions, PlanOptions, SamplingOptions])
def test_a_limit_of_rows_means_the_same_in_every_command(options):
    (limit,) = (option for option in fields(options) if option.name == "limit")
    assert (limit.metadata, options.LEAST["limit"]) == (LIMIT, 0)
    assert [num_first(5, limit) for limit in (0, 3, 9)] == [5, 3, 5]
