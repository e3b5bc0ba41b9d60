"""The modules that options of adapters name: each name has to fit one, and one that is trained."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from triptych_trainer.errors import UsageError

__all__ = ["check_below", "check_names"]


def check_below(given: Any, language_model: torch.nn.Module, *, text: str) -> None:
    """Check that one of the named modules is inside the language model, where the rest is frozen."""
    names = [f"{text}.{name}" for name, _ in language_model.named_modules()]
    if not any(_fits(one, names, is_pattern=isinstance(given, str)) for one in _listed(given)):
        raise UsageError(
            f"--lora_target_modules {' '.join(_listed(given))}: none of these is in the language model, and "
            "--freeze_vision_modules leaves the rest as it is; name layers of the language model, or leave out "
            "--freeze_vision_modules"
        )


def _listed(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else sorted(given or ())


def _fits(one: str, names: Sequence[str], *, is_pattern: bool) -> bool:
    pattern = one if is_pattern else rf"(.*\.)?{re.escape(one)}"
    return one == "all-linear" or any(re.fullmatch(pattern, name) for name in names)


def check_names(given: Any, model: torch.nn.Module, *, option: str) -> None:
    """Check that every name that an option gives fits a module: PEFT says nothing where one of several does not."""
    names = [name for name, _ in model.named_modules()]
    for one in _listed(given):
        try:
            fits = _fits(one, names, is_pattern=isinstance(given, str))
        except re.error as error:
            raise UsageError(
                f"{option} {one}: not a regular expression ({error}); correct it, or name layers"
            ) from error
        if not fits:
            linear = {name.rpartition(".")[2] for name, part in model.named_modules() if type(part) is torch.nn.Linear}
            raise UsageError(
                f"{option} {one}: no module of this {type(model).__name__} has such a name; its linear layers are "
                f"{', '.join(sorted(linear))}: name some of these, or leave it out"
            )
