"""Command-line arguments: Triptych's own few, beside every option of TRL's GRPOConfig and ModelConfig."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from triptych_data import ImagePolicy
from triptych_data.prompt_settings import PromptSettings
from trl import GRPOConfig, ModelConfig, TrlParser

from triptych_trainer.errors import UsageError

__all__ = ["RunArguments", "RunConfig", "image_policy", "parse_run", "prompt_settings", "wants_demo"]


@dataclass(kw_only=True)
class RunArguments:
    """What Triptych adds to TRL's options."""

    data: list[str] | None = field(
        default=None, metadata={"help": "Training files (VLM-R1 JSONL, TRL conversational, ...); several are joined."}
    )
    eval_data: list[str] | None = field(default=None, metadata={"help": "Held-out files for TRL's evaluation loop."})
    image_root: list[str] | None = field(
        default=None, metadata={"help": "Folder that image paths are relative to; one for all files, or one per file."}
    )
    allow_outside: list[str] | None = field(
        default=None, metadata={"help": "Further folders that images may lie in, besides the image root."}
    )
    allow_remote: bool = field(default=False, metadata={"help": "Read images at addresses, such as https://."})
    data_format: str = field(default="auto", metadata={"help": "Name of the data format, or auto: told by content."})
    reward: list[str] = field(
        default_factory=lambda: ["accuracy", "format"],
        metadata={
            "help": "Names of triptych_trainer.rewards, module:function, file.py:function or model:<reward model>."
        },
    )
    freeze_vision_modules: bool = field(
        default=False,
        metadata={"help": "Train the language model only; the tower then runs once per image for all passes."},
    )
    vision_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of everything outside the language model; default: --learning_rate."},
    )
    min_pixels: int | None = field(default=None, metadata={"help": "Fewest pixels an image is resized to."})
    max_pixels: int | None = field(default=None, metadata={"help": "Most pixels an image is resized to."})
    max_prompt_image_tokens: int | None = field(
        default=None,
        metadata={"help": "Most tokens that all images of a prompt take together; larger ones give way first."},
    )
    max_prompt_tokens: int | None = field(
        default=None,
        metadata={"help": "A prompt of more tokens, images included, is an error that names its row; none is cut."},
    )
    group_sharing: str = field(
        default="auto",
        metadata={"help": "auto: each prompt is forwarded once for its completions; off: the plain replicated pass."},
    )
    completions_per_slice: int | None = field(
        default=None,
        metadata={
            "help": "For groups larger than memory: score and back-propagate at most so many completions at a time. "
            "Exact; costs one more forward pass; not with FSDP or ZeRO-3."
        },
    )
    image_cache_gb: float = field(default=2.0, metadata={"help": "Host memory for decoded images, in GiB."})
    image_threads: int = field(default=2, metadata={"help": "Threads that decode images ahead of the step."})
    rollouts: bool = field(
        default=True,
        metadata={"help": "Write every generation with rewards and advantages as parquet, and report.html over them."},
    )
    memory_forecast: bool = field(
        default=True,
        metadata={"help": "Say at the start what memory the run will need, and after two steps what it took."},
    )
    chat_template_images: str = field(
        default="exact",
        metadata={
            "help": "If the chat template moves images, as LLaVA's does. exact: refuse; inline: write them at their "
            "markers; template: leave them where it puts them."
        },
    )
    placement: str = field(
        default="in_place",
        metadata={"help": "Demo only. in_place: images at their markers; first: all moved to the front, to compare."},
    )
    quiet: bool = field(default=False, metadata={"help": "Only warnings, errors and the last lines."})


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The parsed command line."""

    run: RunArguments
    grpo: GRPOConfig
    model: ModelConfig
    command: tuple[str, ...]
    options: Mapping[str, Any]
    """The options that differ from their defaults, as they were given: a ``--config`` that repeats the run."""


def image_policy(options: Any) -> ImagePolicy:
    """What ``--allow_outside`` and ``--allow_remote`` of a command let it read."""
    return ImagePolicy(
        allow_outside=tuple(Path(folder) for folder in options.allow_outside or ()), allow_remote=options.allow_remote
    )


def prompt_settings(config: RunConfig) -> PromptSettings:
    """How the rows of a run become prompts."""
    run = config.run
    return PromptSettings(
        max_prompt_image_tokens=run.max_prompt_image_tokens,
        max_prompt_tokens=run.max_prompt_tokens,
        chat_template_images=run.chat_template_images,  # type: ignore[arg-type]
        chat_template_kwargs=config.grpo.chat_template_kwargs or {},
        policy=image_policy(run),
    )


def wants_demo(argv: Sequence[str]) -> bool:
    """Tell whether a command line names neither a model nor data, neither directly nor in its ``--config``."""
    named = ("model_name_or_path", "data")
    given = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in argv if argument.startswith("--")}
    config = _config_file(argv)
    return not (given | set(config)) & set(named)


def _config_file(argv: Sequence[str]) -> Mapping[str, Any]:
    if "--config" not in argv:
        return {}
    position = list(argv).index("--config") + 1
    if position >= len(argv):
        raise UsageError("--config expects the path of a YAML file, got nothing after it")
    path = Path(argv[position])
    if not path.is_file():
        raise UsageError(f"--config expects the path of a YAML file, got {path}: no such file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path} must hold a mapping of option names to values, got {type(content).__name__}")
    return content


def _device_defaults() -> dict[str, Any]:
    """TRL's defaults assume a GPU with bfloat16; without any accelerator train in float32 on the CPU."""
    if torch.accelerator.is_available():
        return {}
    return {"use_cpu": True, "bf16": False}


def parse_run(argv: Sequence[str], *, defaults: Mapping[str, Any] | None = None) -> RunConfig:
    """Parse a command line; explicit options win over ``--config``, which wins over ``defaults``.

    Raises:
        UsageError: an option value that TRL or transformers refuses, with its own explanation.
    """
    config = _config_file(argv)  # its errors are clearer than the parser's
    parser = TrlParser((RunArguments, GRPOConfig, ModelConfig), prog="train", allow_abbrev=False)
    parser.set_defaults(logging_steps=1, report_to=["none"], **{**_device_defaults(), **(defaults or {})})
    unknown = set(config) - {action.dest for action in parser._actions} - {"env"}
    if unknown:
        raise UsageError(f"--config names unknown options: {', '.join(sorted(unknown))}; see `train --help`")
    try:
        run, grpo, model = parser.parse_args_and_config(args=list(argv))
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error
    command = (Path(sys.argv[0]).name, *argv)
    return RunConfig(run=_checked(run), grpo=grpo, model=model, command=command, options=_given(parser, argv))


def _given(parser: TrlParser, argv: Sequence[str]) -> dict[str, Any]:
    """The parsed options before any dataclass derives others from them, without those left at their defaults."""
    values = vars(parser.parse_known_args(_without_config(argv))[0])
    given = {}
    for part in (RunArguments, GRPOConfig, ModelConfig):
        for option in fields(part):
            value = values.get(option.name)
            default = option.default_factory() if option.default_factory is not MISSING else option.default
            value, default = (item.value if isinstance(item, Enum) else item for item in (value, default))
            if option.name in values and value != default:
                given[option.name] = value
    return given


def _without_config(argv: Sequence[str]) -> list[str]:
    kept = list(argv)
    if "--config" in kept:
        position = kept.index("--config")
        del kept[position : position + 2]
    return kept


def _checked(run: RunArguments) -> RunArguments:
    for name, value, allowed in (
        ("group_sharing", run.group_sharing, ("auto", "off")),
        ("placement", run.placement, ("in_place", "first")),
        ("chat_template_images", run.chat_template_images, ("exact", "inline", "template")),
    ):
        if value not in allowed:
            raise UsageError(f"--{name} expects one of {', '.join(allowed)}, got {value!r}")
    if run.min_pixels and run.max_pixels and run.min_pixels > run.max_pixels:
        raise UsageError(f"--min_pixels {run.min_pixels} is more than --max_pixels {run.max_pixels}; swap or drop one")
    return run
