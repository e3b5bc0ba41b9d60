"""The words of a command line before any library reads them; importing this module loads nothing heavy."""

from argparse import ArgumentTypeError
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from triptych_data.option_parser import underscored
from triptych_data.other_names import nearest_option

from triptych_trainer.errors import UsageError

__all__ = [
    "check_config",
    "check_model_and_data",
    "config_file",
    "true_or_false",
    "wants_demo",
    "without_config",
    "written_out",
]

_TRUE, _FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")
MISSING: Mapping[str, tuple[str, str]] = {
    "train": ("--model_name_or_path", "is missing: give a model and data, or neither for the built-in demo"),
    "sft": ("--model_name_or_path", "is missing: give a model and data"),
    "plan": ("--model", "is missing: a plan needs a model folder (its weights are not read) and data"),
}
"""For each command the option of its model, and what to say where model or data are missing."""


def wants_demo(argv: Sequence[str]) -> bool:
    """Return whether a command line names neither a model nor data, directly or in its ``--config``."""
    words = written_out(argv)
    given = {word.split("=")[0].lstrip("-") for word in words if word.startswith("--")}
    return not (given | set(config_file(words))) & {"model_name_or_path", "data"}


def written_out(argv: Sequence[str]) -> list[str]:
    """Return the words of a command line with ``_`` in names and TRL's name for ``--model``, and the file of
    ``--config``.
    """
    words: list[str] = []
    for word in underscored(argv):
        name, equals, value = word.partition("=")
        if name == "--model":
            word = f"--model_name_or_path{equals}{value}"
        words += [name, value] if name == "--config" and equals else [word]
    return words


class _OnceLoader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that is there twice: only the last one would count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return the mapping of a node."""
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def config_file(argv: Sequence[str]) -> Mapping[str, Any]:
    """Return the content of the file of ``--config``; empty if there is none.

    Raises:
        UsageError: it cannot be read.
    """
    if "--config" not in argv:
        return {}
    position = list(argv).index("--config") + 1
    if position >= len(argv):
        raise UsageError("--config expects the path of a YAML file, got nothing after it")
    path = Path(argv[position])
    if not path.is_file():
        raise UsageError(f"--config expects the path of a YAML file, got {path}: no such file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (ValueError, yaml.YAMLError) as error:  # a ValueError: it is no text
        raise UsageError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"--config {path} must contain a mapping of option names to values, got {type(content).__name__}; "
            "write one option: value in each line"
        )
    if others := [key for key in content if not isinstance(key, str)]:
        raise UsageError(f"--config {path}: expected the names of options as keys, got {others[0]!r}")
    return content


def check_config(config: Mapping[str, Any], names: Collection[str], *, known: Sequence[str], command: str) -> None:
    """Raise UsageError if the file of ``--config`` names an option that is none of ``names``.

    Args:
        known: the options as a command line writes them, of which the nearest one is proposed.
    """
    unknown = sorted((set(config) - set(names) - {"env"}) | (set(config) & {"help"}))
    if unknown:
        hint = nearest_option(f"--{unknown[0]}", known).replace("--", "")
        raise UsageError(f"--config names unknown options: {', '.join(unknown)}{hint}; see `{command} --help`")


def without_config(argv: Sequence[str]) -> list[str]:
    """Return the words without ``--config`` and its file."""
    kept = list(argv)
    if "--config" in kept:
        position = kept.index("--config")
        del kept[position : position + 2]
    return kept


def check_model_and_data(model: str | None, data: Sequence[str] | None, *, command: str) -> None:
    """Raise UsageError if the command line of a command names no model or no data."""
    if model is None or not data:
        option, remedy = MISSING[command]
        raise UsageError(f"{option if data else '--data'} {remedy}")


def true_or_false(word: str | bool) -> bool:
    """Read the value of a switch, in the words that transformers takes.

    Raises:
        ArgumentTypeError: it is another word.
    """
    lower = str(word).lower()
    if lower not in (*_TRUE, *_FALSE):
        raise ArgumentTypeError(f"expected true or false, got {word!r}")
    return lower in _TRUE
