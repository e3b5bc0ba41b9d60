"""The help of a training without importing TRL: Triptych's own options, and the options of TRL that most runs set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.options import DataOptions, PromptOptions

from triptych_trainer.options.common_options import CommonArguments

__all__ = ["RARE", "TrlOptions", "training_help"]

TrlOptions = Mapping[str, tuple[str, str, object]]
"""Options of TRL by name: metavar, text, and default."""

RARE = (
    "allow_outside",
    "allow_remote",
    "max_image_pixels",
    "animated",
    "family",
    "image_cache_gb",
    "image_threads",
    "num_processes",
)
"""Options that few runs set, or that a refusal names where a run needs them; only ``--help_all`` shows them."""


def training_help(
    command: str,
    arguments: type[CommonArguments],
    *,
    trl_options: TrlOptions,
    title: str,
    usage: str = "",
    description: str | None = None,
    rare: Sequence[str] = (),
) -> OptionParser:
    """Return a parser that prints the help of ``command``; a run itself is parsed with all of TRL's options.

    Args:
        arguments: Triptych's own options of the command, which the help lists under ``title``, last those that every
            training has.
        usage: what the line of usage ends in.
        rare: further options that only ``--help_all`` shows.
    """
    made = OptionParser(
        prog=command,
        usage=f"{command} --model NAME --data FILE ... [options]{usage}",
        description=description,
        epilog=f"`{command} --help_all` lists every option, TRL's too. --config FILE.yaml sets any of them.",
    )
    group = made.add_argument_group("the run (TRL's options, the first to know)")
    group.add_argument("--model_name_or_path", "--model", metavar="NAME", help="what to train: a folder or a hub id")
    for name, (metavar, text, default) in trl_options.items():
        shown = "" if default in (None, False) else f" (default: {default})"
        group.add_argument(f"--{name}", metavar=metavar or None, nargs=None if metavar else "?", help=text + shown)
    add_options(made, DataOptions, title="rows and images")
    add_options(made, PromptOptions, title="prompts")
    listed = [option.name for part in (DataOptions, PromptOptions) for option in fields(part)]
    own = add_options(made, arguments, title=title, leave_out=listed)
    common = [option.name for option in fields(CommonArguments)]
    own._group_actions.sort(key=lambda action: action.dest in common)
    for action in made._actions:
        if action.dest in ("help", *RARE, *rare):
            action.help = argparse.SUPPRESS
    return made
