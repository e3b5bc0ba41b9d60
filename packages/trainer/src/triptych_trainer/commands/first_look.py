"""What is wrong with a command line, as far as its words and the names of files say it: before anything heavy is
imported.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from triptych_data.model_name import check_model_name
from triptych_data.option_parser import checked, collected, option_names, unknown_option
from triptych_data.options import DataOptions, PromptOptions, TemplateOptions, check_pixels, data_files, image_roots
from triptych_data.shared_options import shared_options

from triptych_trainer.commands.launch import check_launch_words
from triptych_trainer.commands.light_checks import CHECKS
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.options.common_options import CommonArguments
from triptych_trainer.options.help import PARSERS
from triptych_trainer.options.light_parser import light_parser
from triptych_trainer.options.own_code import check_own_files
from triptych_trainer.options.plan_options import PlanOptions, own_parser
from triptych_trainer.options.run_folders import check_checkpoint_folder, check_output_folder
from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.sft_options import SftArguments
from triptych_trainer.options.tracker_names import check_tracker_names
from triptych_trainer.options.values import SFT_WORDS, WORDS, check_numbers, check_words
from triptych_trainer.options.words import (
    check_config,
    check_model_and_data,
    config_file,
    wants_demo,
    without_config,
    written_out,
)

__all__ = ["RUNS", "first_look", "label"]

RUNS: Mapping[str, tuple[type[CommonArguments], tuple[str, ...]]] = {
    "train": (RunArguments, ("GRPOConfig", "ModelConfig")),
    "sft": (SftArguments, ("SFTConfig", "ModelConfig")),
}
"""The commands that take the options of TRL: Triptych's own options, and the classes of TRL."""
UNSEEN = ("serve",)
"""Commands that pass words on to a program that knows them."""


def first_look(command: str, argv: Sequence[str]) -> int:
    """Return 2 after one line on standard error if the command would refuse its words, otherwise 0.

    The command itself would find the same and say the same, but only after many seconds of imports.
    """
    return outcome(label(command), lambda: _look(command, argv))


def label(command: str) -> str:
    """Return how a command is called in its errors."""
    return command if command == "train" else f"triptych {command}"


def _look(command: str, argv: Sequence[str]) -> int:
    if command in RUNS:
        check_launch_words(argv)
        _look_at_run(command, argv, of=command)
    elif command == "plan":
        namespace, rest = own_parser().parse_known_args(argv)
        own = collected(PlanOptions, namespace)
        _look_at_run("sft" if own.sft else "train", rest, of="plan", further=option_names(own_parser()))
    elif command not in UNSEEN:
        _look_at_command(command, argv)
    return 0


def _look_at_run(run: str, argv: Sequence[str], *, of: str, further: Sequence[str] = ()) -> None:
    """Look at the words of a training; ``of`` is the command that was called, ``further`` what else it takes."""
    own, configs = RUNS[run]
    words = written_out(argv)
    config = config_file(words)
    parser = light_parser(own, configs, command="train" if run == "train" else "triptych sft")
    if parser is None:
        return
    known = option_names(parser)
    check_config(config, {action.dest for action in parser._actions}, known=known, command=parser.prog)
    namespace, rest = parser.parse_known_args(without_config(words))
    if rest:
        raise unknown_option(rest[0], [*further, *known], command="triptych plan" if of == "plan" else parser.prog)
    given = {name: value for name, value in vars(namespace).items() if value is not None}
    trackers = given.get("report_to", config.get("report_to"))
    if isinstance(trackers, str | list):
        check_tracker_names(trackers)
    values = {**config, **given}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}  # TRL makes words of true, false
    check_numbers(argparse.Namespace(**values))
    check_words(argparse.Namespace(**texts), WORDS if run == "train" else SFT_WORDS)
    if of != "plan":
        _look_at_folders(values.get("output_dir"), values.get("resume_from_checkpoint"))
    if of == "train" and wants_demo(argv):
        return
    options = _options(own, given, config)
    model = given.get("model_name_or_path", config.get("model_name_or_path"))
    check_model_and_data(model, options.data, command=of)
    data_files(options)
    image_roots(options)
    _look_at_files(options)
    check_model_name(str(model), option="--model_name_or_path")


def _look_at_folders(output: object, resumed: object) -> None:
    """Refuse an output folder that cannot be one, and a checkpoint that is not there."""
    if isinstance(output, str):
        check_output_folder(output)
    if isinstance(resumed, str):
        check_checkpoint_folder(resumed)


def _options(own: type[CommonArguments], given: Mapping[str, Any], config: Mapping[str, Any]) -> CommonArguments:
    """Triptych's own options of a command line, and the names of files that its ``--config`` adds to them."""
    names = {option.name for option in fields(own)}
    options = checked(own(**{name: value for name, value in given.items() if name in names}))
    check_pixels(options)
    for name in ("data", "eval_data", "image_root", "reward", "tools", "environment"):
        value = config.get(name)
        if name in names and name not in given and isinstance(value, str | list):
            setattr(options, name, [value] if isinstance(value, str) else [str(word) for word in value])
    return options


def _look_at_command(command: str, argv: Sequence[str]) -> None:
    parser = importlib.import_module(PARSERS[command]).parser()
    namespace = parser.parse_args(argv)
    for part in parser.option_classes:
        options = collected(part, namespace)
        if isinstance(options, PromptOptions):
            check_pixels(options)
        _look_at_files(options)
    if {DataOptions, TemplateOptions} <= set(parser.option_classes):
        image_roots(shared_options(namespace).data)
    for name in ("model", "base"):
        path = getattr(namespace, name, None)
        if f"--{name}" in option_names(parser) and isinstance(path, str):
            check_model_name(path, option=f"--{name}")
    if command in CHECKS:
        CHECKS[command](namespace)


def _look_at_files(options: object) -> None:
    """Refuse rewards that nothing is called, and files of rewards, tools and environments that are not there."""
    from triptych_trainer.rewards.loading import check_names, of_option  # brings all rewards

    try:
        check_names(getattr(options, "reward", ()))
    except ValueError as error:
        raise UsageError(of_option(error)) from error
    for option in ("tools", "environment"):
        check_own_files(getattr(options, option, ()), option=f"--{option}")
