"""The options that were given to a command: as a configuration, and as the check of the same rows."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from triptych_data import DataError
from triptych_data.option_parser import option_names

from triptych_trainer.options.check_options import parser

__all__ = ["check_command", "given_options", "with_check_command"]

_NOT_NEEDED = ("on_bad", "max_bad")
"""Options that decide what a run does with refused rows; a check lists them in any case."""


def given_options(*groups: Any) -> dict[str, Any]:
    """Return the options of a command that differ from their defaults, as a ``config.yaml`` contains them."""
    given = {}
    for group in groups:
        defaults = type(group)()
        for option in fields(group):
            value = getattr(group, option.name)
            if value != getattr(defaults, option.name):
                given[option.name] = value
    return given


def check_command(given: Mapping[str, Any], *, sft: bool = False) -> str:
    """Return the `triptych check` that looks at rows as a command does whose options were ``given``."""
    known = {name.removeprefix("--") for name in option_names(parser())} - set(_NOT_NEEDED)
    words = ["triptych", "check", *(["--sft"] if sft else [])]
    for name in sorted(known & given.keys()):
        value = given[name]
        if value in (None, False, []):
            continue
        words.append(f"--{name}")
        if isinstance(value, Mapping):
            words.append(json.dumps(value))
        elif value is not True:
            words += map(str, value if isinstance(value, (list, tuple)) else [value])
    return shlex.join(words)


def with_check_command(error: DataError, given: Mapping[str, Any], *, sft: bool = False) -> DataError:
    """Return the error of the first refused row, with the command that lists all of them."""
    if error.kind == "io":  # a disk or a network, which another command would not read either
        return error
    remedy = f"{error.remedy}; to list every refused row: {check_command(given, sft=sft)}"
    return DataError(error.reason, source=error.source, id=error.id, remedy=remedy, kind=error.kind)
