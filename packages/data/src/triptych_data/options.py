"""The options that every command shares: which rows and images are read, and how rows become prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from triptych_data.errors import DataError, UsageError
from triptych_data.formats import FORMATS
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.prompt_settings import PromptSettings
from triptych_data.rows.names import meant

QUARANTINE = "quarantine.jsonl"
"""The file in an output folder that lists the rows a run left out."""


@dataclass(kw_only=True)
class DataOptions:
    """Says which rows and images are read."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "data_format": ("auto", *FORMATS),
        "animated": ("refuse", "first"),
        "on_bad": ("stop", "skip"),
    }
    LEAST: ClassVar[Mapping[str, int]] = {"max_image_pixels": 1, "max_bad": 0}

    data: list[str] | None = field(
        default=None, metadata={"metavar": "FILE", "help": "JSONL, JSON, parquet or tar files, or saved datasets"}
    )
    eval_data: list[str] | None = field(default=None, metadata={"metavar": "FILE", "help": "held-out files"})
    image_root: list[str] | None = field(
        default=None,
        metadata={
            "metavar": "DIR",
            "help": "folder of the image paths: one, or one per file (default: the file's own)",
        },
    )
    data_format: str = field(
        default="auto",
        metadata={"metavar": "NAME", "help": ", ".join(["auto", *FORMATS])},
    )
    allow_outside: list[str] | None = field(
        default=None, metadata={"metavar": "DIR", "help": "further folders that images may lie in"}
    )
    allow_remote: bool = field(default=False, metadata={"help": "read images at addresses, such as https://"})
    max_image_pixels: int = field(
        default=DEFAULT_POLICY.max_image_pixels, metadata={"help": "refuse larger images by their headers"}
    )
    animated: str = field(
        default="refuse",
        metadata={"help": "animations and pages: refuse them, or take the first frame"},
    )
    on_bad: str = field(
        default="stop",
        metadata={"help": "what to do about a row that cannot be used"},
    )
    max_bad: float = field(
        default=0.01,
        metadata={"help": "rows that each process may skip: a share of all, or a number from 1 on"},
    )


@dataclass(kw_only=True)
class ModelOptions:
    """Says how commands that are no run read a model's folder or hub id; a run has these options from TRL."""

    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a hub id"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with the model"})


@dataclass(kw_only=True)
class PromptOptions:
    """Says how rows become prompts."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"chat_template_images": ("exact", "inline", "template")}
    LEAST: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ("min_pixels", "max_pixels", "max_prompt_image_tokens", "max_prompt_tokens"), 1
    )

    min_pixels: int | None = field(default=None, metadata={"help": "fewest pixels an image is resized to"})
    max_pixels: int | None = field(default=None, metadata={"help": "most pixels an image is resized to"})
    max_prompt_image_tokens: int | None = field(
        default=None, metadata={"help": "tokens of all images of a prompt; larger ones are made smaller"}
    )
    max_prompt_tokens: int | None = field(
        default=None, metadata={"help": "refuse longer prompts, images included; none is cut"}
    )
    chat_template_images: str = field(
        default="exact",
        metadata={
            "metavar": "WORD",
            "help": "if the chat template moves images: exact refuses, inline writes them at their markers, template "
            "accepts",
        },
    )


@dataclass(kw_only=True)
class TemplateOptions(PromptOptions):
    """Says how commands that are no run fill chat templates; a run has `chat_template_kwargs` from TRL."""

    chat_template_kwargs: str | None = field(
        default=None, metadata={"metavar": "JSON", "help": "further arguments of the chat template, as a JSON object"}
    )


def image_policy(options: DataOptions) -> ImagePolicy:
    """Return which images the options let a command read."""
    return ImagePolicy(
        allow_outside=tuple(Path(folder) for folder in options.allow_outside or ()),
        allow_remote=options.allow_remote,
        max_image_pixels=options.max_image_pixels,
        animated=options.animated,  # type: ignore[arg-type]
    )


_OF_THE_CALL = (
    *(
        "messages",
        "conversation",
        "chat_template",
        "tokenize",
        "add_generation_prompt",
        "continue_final_message",
        "return_tensors",
    ),
    *("return_dict", "images", "padding", "truncation", "max_length"),
)
"""Arguments of `apply_chat_template` that say what it returns, and none of the template itself."""


def prompt_settings(
    data: DataOptions, prompt: PromptOptions, *, chat_template_kwargs: dict[str, Any] | None = None
) -> PromptSettings:
    """Return how the options make prompts of rows."""
    if isinstance(prompt, TemplateOptions) and prompt.chat_template_kwargs is not None:
        chat_template_kwargs = json_object(prompt.chat_template_kwargs)
    check_template_arguments(chat_template_kwargs)
    return PromptSettings(
        max_prompt_image_tokens=prompt.max_prompt_image_tokens,
        max_prompt_tokens=prompt.max_prompt_tokens,
        chat_template_images=prompt.chat_template_images,  # type: ignore[arg-type]
        chat_template_kwargs=chat_template_kwargs or {},
        policy=image_policy(data),
    )


def check_template_arguments(given: dict[str, Any] | None) -> None:
    """Raise UsageError if an argument of the chat template is one of the call that fills it."""
    for name in _OF_THE_CALL:
        if name in (given or {}):
            raise UsageError(
                f"--chat_template_kwargs {name}: the prompt is always written as text with the assistant's turn begun; "
                "leave it out"
            )


def check_pixels(prompt: PromptOptions) -> None:
    """Raise UsageError if the two pixel limits contradict each other."""
    low, high = prompt.min_pixels, prompt.max_pixels
    if low and high and low > high:
        raise UsageError(f"--min_pixels {low} is more than --max_pixels {high}; swap or drop one")


def need_model(prompt: PromptOptions, model: str | None) -> None:
    """Raise UsageError if an option about tokens or pixels is given without a model that counts them."""
    given = [name for name in vars(prompt) if getattr(prompt, name) not in (None, "exact")]
    if model is None and given:
        raise UsageError(f"--{given[0]} needs --model, whose processor does the counting")


def image_roots(options: DataOptions) -> tuple[list[Path | None], list[Path | None]]:
    """Return the image folder of each file of `--data`, and of each of `--eval_data`; None means the folder of the
    file.

    `--image_root` names one folder for all files, one for each of `--data` and then each of `--eval_data`, or, where
    both have as many files, one for each pair. UsageError gives the counts where it is another number.
    """
    roots: list[Path | None] = [Path(root) for root in options.image_root or ()]
    num_data, num_eval = len(options.data or ()), len(options.eval_data or ())
    if len(roots) < 2:
        found = (roots or [None]) * num_data, (roots or [None]) * num_eval
    elif len(roots) == num_data + num_eval:
        found = roots[:num_data], roots[num_data:]
    elif len(roots) == num_data == num_eval:
        found = roots, roots
    else:
        raise UsageError(
            f"--image_root expects one folder, or one for each of the {num_data} --data files"
            f"{f' and then of the {num_eval} --eval_data files' if num_eval else ''}; got {len(roots)}"
        )
    for root in roots:
        if root is not None and not root.is_dir():
            raise UsageError(f"--image_root {root}: no such folder (looked from {Path.cwd()}); correct the path")
    return found


def check_reading(options: DataOptions) -> None:
    """Raise UsageError if an option names a folder that does not exist, or if nothing would read an option."""
    for folder in options.allow_outside or ():
        if not Path(folder).is_dir():
            raise UsageError(f"--allow_outside {folder}: no such folder (looked from {Path.cwd()}); correct the path")
    if options.on_bad == "stop" and options.max_bad != DataOptions.max_bad:
        raise UsageError(
            f"--max_bad {options.max_bad:g}: without --on_bad skip no row may be skipped; add --on_bad skip, or leave "
            "--max_bad out"
        )


def data_files(options: DataOptions, named: Sequence[str] = ()) -> list[str]:
    """Return the files of `--data`, or those named without it; raise UsageError if there are none, or if a file does
    not exist.
    """
    if named and options.data:
        raise UsageError(f"name the data files once: {named[0]} is given without --data and {options.data[0]} with it")
    files = [*named, *(options.data or ())]
    if not files and not options.eval_data:
        raise UsageError("--data is missing: name the data files with it, or before any option")
    if "" in files:
        raise UsageError("expected the name of a data file, got nothing")
    for option, given in (("--data ", files), ("--eval_data ", options.eval_data or ())):
        for file in given:
            try:
                meant(file)
            except DataError as error:
                where = f"{'' if named else option}{file}"
                raise UsageError(f"{where}: {error.reason} (looked from {Path.cwd()}); correct the path") from error
    return files


def json_object(text: str) -> dict[str, Any]:
    """Read ``--chat_template_kwargs``; raises UsageError where it is no JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--chat_template_kwargs is not valid JSON ({error}): got {text!r}") from error
    if not isinstance(value, dict):
        raise UsageError(f"--chat_template_kwargs expects a JSON object such as '{{\"a\": true}}', got {text!r}")
    return value
