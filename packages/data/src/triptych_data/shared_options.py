"""The options that `check`, `preview` and `eval` share with a run: how each adds them, and what it was given."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych_data.model_name import check_revision
from triptych_data.option_parser import OptionParser, add_options, collected, refuse_given
from triptych_data.options import (
    DataOptions,
    ModelOptions,
    TemplateOptions,
    check_pixels,
    check_reading,
    data_files,
    image_roots,
    need_model,
    prompt_settings,
)
from triptych_data.prompt_settings import PromptSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """Contains what a command line says of the model, the data and the prompts, checked as far as no file is opened."""

    model: str | None
    loading: ModelOptions
    data: DataOptions
    prompt: TemplateOptions

    @property
    def settings(self) -> PromptSettings:
        """How rows become prompts."""
        return prompt_settings(self.data, self.prompt)

    @property
    def train_files(self) -> Sequence[tuple[str, Path | None]]:
        """The files of `--data`, each with its image folder."""
        return list(zip(self.data.data or (), image_roots(self.data)[0], strict=True))

    @property
    def held_out_files(self) -> Sequence[tuple[str, Path | None]]:
        """The files of `--eval_data`, each with its image folder."""
        return list(zip(self.data.eval_data or (), image_roots(self.data)[1], strict=True))


def add_shared_options(
    made: OptionParser, *, needs_model: bool = False, model_help: str = "count tokens with this model"
) -> None:
    """Add the model under its two names, how it is read, and the options of data and prompts."""
    add_model(add_options(made, ModelOptions, title="the model, as for train"), required=needs_model, help=model_help)
    add_options(made, DataOptions, title="rows and images, as for train")
    add_options(made, TemplateOptions, title=f"prompts, as for train{'' if needs_model else ' (these need --model)'}")


def add_model(group: argparse._ArgumentGroup, *, required: bool = False, help: str = "the model") -> None:
    """Add the model under its two names."""
    names = ("--model_name_or_path", "--model")
    group.add_argument(*names, dest="model", metavar="NAME", required=required, help=f"{help}: a folder or a hub id")


def shared_options(namespace: argparse.Namespace) -> SharedOptions:
    """Return what a parsed command line says; raise UsageError if a file or a folder is missing, if two options
    contradict each other, or if nothing would read an option.
    """
    data, prompt = collected(DataOptions, namespace), collected(TemplateOptions, namespace)
    data.data = data_files(data, getattr(namespace, "files", ()))
    check_reading(data)
    need_model(prompt, namespace.model)
    check_revision(namespace.model, namespace.model_revision)
    check_pixels(prompt)
    loading = collected(ModelOptions, namespace)
    if namespace.model is None:
        refuse_given(loading, ("trust_remote_code",), why="no model is read; add --model")
    return SharedOptions(model=namespace.model, loading=loading, data=data, prompt=prompt)
