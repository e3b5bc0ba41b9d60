"""The command line of a run: Triptych's own options next to every option of TRL's GRPOConfig and ModelConfig."""

import itertools
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import torch
from transformers import TrainingArguments
from triptych_data.option_parser import OptionParser, checked, option_names, unknown_option
from triptych_data.options import check_pixels, image_policy
from triptych_data.options import prompt_settings as settings_of
from triptych_data.prompt_settings import PromptSettings
from trl import GRPOConfig, ModelConfig, TrlParser

from triptych_trainer.errors import UsageError
from triptych_trainer.options.checkpointing import AUTO, CHECKPOINTING, auto_or_bool, set_checkpointing
from triptych_trainer.options.common_options import CommonArguments
from triptych_trainer.options.config_kinds import check_choices, check_kinds, takes_mapping
from triptych_trainer.options.explained import explained
from triptych_trainer.options.light_parser import takes_several
from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.unread import check_given
from triptych_trainer.options.values import check_steps
from triptych_trainer.options.words import check_config, config_file, true_or_false, without_config, written_out

__all__ = [
    "Parsed",
    "RunArguments",
    "RunConfig",
    "TrainingConfig",
    "device_defaults",
    "image_policy",
    "parse_run",
    "parsed",
    "parser_of",
    "prompt_settings",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig(ABC):
    """Contains the parsed command line of a training of either kind."""

    run: CommonArguments
    """Triptych's own options."""
    model: ModelConfig
    command: tuple[str, ...]
    """The words that were given."""
    options: Mapping[str, Any]
    """The options that differ from their defaults, as they were given: a ``--config`` that repeats the run."""

    @property
    @abstractmethod
    def trl(self) -> TrainingArguments:
        """The options of TRL's trainer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig(TrainingConfig):
    """Contains the parsed command line of `train`."""

    run: RunArguments
    grpo: GRPOConfig
    chooses_checkpointing: bool = False
    """Whether the forecast is to choose gradient checkpointing; until then it is on in ``grpo``."""

    @property
    def trl(self) -> TrainingArguments:
        """The options of TRL's trainer."""
        return self.grpo


def prompt_settings(config: RunConfig) -> PromptSettings:
    """Return the settings by which the rows of a run become prompts."""
    return settings_of(config.run, config.run, chat_template_kwargs=config.grpo.chat_template_kwargs)


def device_defaults() -> dict[str, Any]:
    """Return the defaults without an accelerator: float32 on the CPU. TRL's own defaults assume a GPU with bfloat16."""
    if torch.accelerator.is_available():
        return {}
    return {"use_cpu": True, "bf16": False}


def parse_run(
    argv: Sequence[str], *, defaults: Mapping[str, Any] | None = None, own: OptionParser | None = None
) -> RunConfig:
    """Parse a command line; explicit options win over ``--config``, which wins over ``defaults``. ``own`` is the parser
    of a command that took its further options from the line before.

    Raises:
        UsageError: an unknown option, or a value that TRL or transformers refuses, with its own explanation.
    """
    found = parsed(argv, run_parser(defaults), parts=_PARTS, own=own)
    run, grpo, model = found.parts
    check_pixels(checked(run))
    settings_of(run, run, chat_template_kwargs=grpo.chat_template_kwargs)  # refuses what it cannot use
    check_given(found.options, grpo, model, run)
    chooses = getattr(grpo, CHECKPOINTING) == AUTO
    if chooses:
        set_checkpointing(grpo, True)
    return RunConfig(
        run=run,
        grpo=grpo,
        model=model,
        command=found.command,
        options=found.options,
        chooses_checkpointing=chooses,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """Contains a command line as its parser read it."""

    parts: tuple[Any, ...]
    """One object for each class of options."""
    command: tuple[str, ...]
    options: Mapping[str, Any]
    """The options that differ from their defaults."""


def parsed(argv: Sequence[str], parser: TrlParser, *, parts: Sequence[type], own: OptionParser | None = None) -> Parsed:
    """Parse a command line and its ``--config`` into objects of the classes ``parts``; ``own`` as in `parse_run`.

    Raises:
        UsageError: an unknown option, or a value that TRL or transformers refuses, with its own explanation.
    """
    words = written_out(argv)
    config = config_file(words)  # its errors are clearer than the parser's
    known = option_names(parser)
    check_config(config, {action.dest for action in parser._actions}, known=known, command=parser.prog)
    check_kinds(config, parts)
    check_choices(config, parser._actions)
    given, rest = parser.parse_known_args(without_config(words))
    vars(given).update({name: value for name, value in config.items() if f"--{name}" not in words})
    if rest:
        of_command = [] if own is None else option_names(own)
        raise unknown_option(rest[0], [*of_command, *known], command=(own or parser).prog)
    check_steps(given)
    _check_no_lists(given, parts)
    try:
        made = parser.parse_args_and_config(args=list(words))
    except json.JSONDecodeError as error:
        before = next((name for name, word in itertools.pairwise(words) if word == error.doc), "")
        in_file = next((name for name, value in config.items() if value == error.doc), None)
        if not before and in_file is not None:
            before = f"--config: {in_file}"
        if not before and given.deepspeed:
            raise UsageError(f"--deepspeed {given.deepspeed} is not valid JSON: {error}; correct the file") from error
        named = f"{before.partition('=')[0]} expects" if before.startswith("--") else "expected"
        raise UsageError(f"{named} a JSON object such as '{{\"a\": true}}', got {error.doc!r}: {error}") from error
    except ValueError as error:
        raise UsageError(explained(error, given)) from error
    except ImportError as error:
        if not given.deepspeed:
            raise
        raise UsageError(
            f"--deepspeed {given.deepspeed} needs DeepSpeed ({str(error).strip()}); "
            "pip install 'triptych-trainer[deepspeed]', or leave the option out"
        ) from error
    except TypeError as error:
        if "__init__() got an unexpected keyword argument" not in str(error):
            raise
        name = str(error).partition("AcceleratorConfig.__init__() got an unexpected keyword argument")[2].strip()
        raise UsageError(f"--accelerator_config {name}: accelerate has no such entry; leave it out") from error
    except ZeroDivisionError as error:  # TRL divides by it before it looks at it
        raise UsageError("--num_generations expects 2 or more, got 0") from error
    for part, name in itertools.product(made, ("output_dir", "model_name_or_path")):
        if getattr(part, name, None) == "":
            raise UsageError(f"--{name} expects a name, got nothing")
    _check_mappings(made)
    command = (Path(sys.argv[0]).name, *argv)
    return Parsed(parts=tuple(made), command=command, options=_given(parser, words, parts=parts))


_PARTS = (RunArguments, GRPOConfig, ModelConfig)


class _Parser(TrlParser):  # type: ignore[misc]
    """Parses as TRL does; an option that is a text or a list of texts takes several words as well."""

    def __init__(self, parts: Sequence[type], **options: Any) -> None:
        super().__init__(parts, **options)
        self.several = {name for part in parts for name, hint in get_type_hints(part).items() if takes_several(hint)}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options that are known, and the words that are left; a single word stays a text."""
        found, rest = super().parse_known_args(args, namespace)
        for name in self.several:
            value = getattr(found, name)
            if isinstance(value, list) and len(value) == 1:
                setattr(found, name, value[0])
        return found, rest


def run_parser(defaults: Mapping[str, Any] | None = None) -> TrlParser:
    """Return the parser of a run, with every option of TRL."""
    return parser_of(_PARTS, command="train", defaults={CHECKPOINTING: AUTO, **(defaults or {})})


def parser_of(parts: Sequence[type], *, command: str, defaults: Mapping[str, Any] | None = None) -> TrlParser:
    """Return a parser of all options of some classes, which says in its errors how to get the help of a command."""
    parser = _Parser(tuple(parts), prog=command, allow_abbrev=False)
    own = {"logging_steps": 1, "report_to": ["none"]}
    parser.set_defaults(**{**own, **device_defaults(), **(defaults or {})})
    for action in parser._actions:
        if action.dest in parser.several:
            action.nargs = "+"
        if action.dest == CHECKPOINTING and action.default == AUTO:
            action.type, action.help = auto_or_bool, "Compute activations again; auto: where they do not fit (auto)."
        elif getattr(action.type, "__name__", "") == "string_to_bool":
            action.type = true_or_false  # refuses other words as all other commands do
        opposite = next((name for name in action.option_strings if name.startswith("--no_")), None)
        if opposite is not None:  # its text would be that of the option it switches off
            action.help = f"Switch off --{action.dest}."
    parser.error = partial(_refuse, command=command)
    return parser


def _refuse(message: str, *, command: str) -> NoReturn:
    text = re.sub(r"^(--\w+)/--[\w-]+", r"\1", message.removeprefix("argument "))
    raise UsageError(f"{text}; see `{command} --help`")


def _check_no_lists(given: Any, parts: Sequence[type]) -> None:
    """Refuse a JSON list for an option that is a mapping, which transformers takes for the name of a file."""
    for name in {name for part in parts for name, hint in get_type_hints(part).items() if takes_mapping(hint)}:
        value = getattr(given, name, None)
        if isinstance(value, str) and value.lstrip().startswith("["):
            raise UsageError(f"--{name} expects a JSON object such as '{{\"a\": true}}', got {value}")


_MAPPINGS = ("chat_template_kwargs", "generation_kwargs", "model_init_kwargs", "lr_scheduler_kwargs")


def _check_mappings(parts: Sequence[Any]) -> None:
    for part, name in itertools.product(parts, _MAPPINGS):
        value = getattr(part, name, None)
        if isinstance(part, TrainingArguments) and value is not None and not isinstance(value, Mapping):
            raise UsageError(f"--{name} expects a JSON object such as '{{\"a\": true}}', got {value!r}")


def _given(parser: TrlParser, argv: Sequence[str], *, parts: Sequence[type]) -> dict[str, Any]:
    """The parsed options before any dataclass derives others from them, without those left at their defaults."""
    values = vars(parser.parse_known_args(without_config(argv))[0])
    chooses = any(action.type is auto_or_bool for action in parser._actions)  # the defaults are now those of --config
    given = {}
    for part in parts:
        for option in fields(part):  # type: ignore[arg-type]
            value = values.get(option.name)
            default = option.default_factory() if option.default_factory is not MISSING else option.default
            value, default = _plain(value), _plain(default)
            if option.name == CHECKPOINTING and chooses:
                default = AUTO
            unset = value == default or (value is False and default == "no")  # the parser reads that default as a bool
            if option.name in values and not unset:
                given[option.name] = value
    return given


def _plain(value: Any) -> Any:
    """A value in a form that YAML and JSON can contain."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
