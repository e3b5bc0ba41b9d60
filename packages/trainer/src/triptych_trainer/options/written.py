"""How a message names an option: as a command line writes it, or as the script that uses a trainer writes it.

All messages are written with the names of a command line, such as `--use_vllm true`. Where no command runs, they are
turned into those of a script, such as `use_vllm=True`, when they leave the trainer.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from triptych_parser import Refusal

__all__ = ["as_written", "by_command", "naming_arguments"]

T = TypeVar("T")

ARGUMENTS = {
    "allow_outside": "image_policy",
    "allow_remote": "image_policy",
    "data": "train_dataset",
    "environment": "environment_factory",
    "eval_data": "eval_dataset",
    "load_in_4bit": "quantization_config",
    "load_in_8bit": "quantization_config",
    "max_image_pixels": "image_policy",
    "model": "model",
    "model_name_or_path": "model",
    "reward": "reward_funcs",
    "use_peft": "peft_config",
}
"""Options that a script gives under another name; all others are arguments of the trainer or fields of `args`."""
ELSEWHERE = {
    re.escape(" or pass the folder it is relative to as image_root (--image_root)"): ", which is relative to the "
    "working directory or absolute; files elsewhere need image_policy=ImagePolicy(allow_outside=[...])",
    r"--resume_from_checkpoint latest\b": "resume_from_checkpoint=True",
    r"\(--animated first\)": "(image_policy)",
    r"max_bad \(--max_bad\)": "max_bad of bad_rows",
    r"(on_bad=\"skip\" \()?--on_bad skip\b\)?": "bad_rows",
    r"--(?=(min_pixels|max_pixels|max_prompt_tokens|max_prompt_image_tokens)\b)": "the preparer's ",
}
"""What a script says otherwise than by another name: the regular expression of an option, and what is said for it."""
ENTRIES = ("__init__", "train", "evaluate", "predict")
"""The methods of a trainer that a script calls."""
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_WORD = "true|false|auto|colocate|folder|gigpo|nccl|off|server"
_OPTION = re.compile(rf"(?<![\w-])--([a-z]\w*)(?![\w-])(?: ({_WORD}|{_NUMBER})\b)?", re.IGNORECASE)
_NEIGHBOURS = re.compile(r"(\w=[\w\".]+) (?=[a-z]\w*=)")
_SWITCHES = {"true": "True", "false": "False", "off": "False"}
_BY_COMMAND: ContextVar[bool] = ContextVar("by_command", default=False)


@contextmanager
def by_command() -> Iterator[None]:
    """Leave options in messages as a command line writes them, while a command runs."""
    token = _BY_COMMAND.set(True)
    try:
        yield
    finally:
        _BY_COMMAND.reset(token)


def as_written(text: str) -> str:
    """Return a message with its options named as the user writes them: those of a script where no command runs.

    What is between backticks is a command, and stays.
    """
    if _BY_COMMAND.get():
        return text
    parts = text.split("`")
    return "`".join(part if number % 2 else _renamed(part) for number, part in enumerate(parts))


def _renamed(text: str) -> str:
    for option, words in ELSEWHERE.items():
        text = re.sub(option, words, text)
    return _NEIGHBOURS.sub(r"\1, ", _OPTION.sub(_argument, text))


def _argument(found: re.Match[str]) -> str:
    option, value = found[1], found[2]
    name = ARGUMENTS.get(option, option)
    if value is None or name != option:
        return name if value is None else f"{name} {value}"
    switched = _SWITCHES.get(value.lower(), value) if option != "group_sharing" else value
    return f"{name}={switched}" if switched in ("True", "False") or switched[-1].isdigit() else f'{name}="{switched}"'


def naming_arguments(kind: type[T]) -> type[T]:
    """Make a class of trainers name options as a script writes them, in what its methods of `ENTRIES` refuse."""
    for name in ENTRIES:
        setattr(kind, name, _renaming(getattr(kind, name)))
    return kind


def _renaming(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Refusal as error:
            error.args = tuple(as_written(part) if isinstance(part, str) else part for part in error.args)
            raise

    return called
