"""Whether every weight of a model came from its files: transformers draws the others at random, and goes on."""

import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper

from triptych_trainer.errors import UsageError
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import load_reports

__all__ = ["check_is_whole", "only_whole_models", "warn_of_made_up_weights"]


def check_is_whole(model: torch.nn.Module, *, missing: Iterable[str], mismatched: Iterable[Any], what: str) -> None:
    """Check what transformers says of the loading of a model; ``what`` is what errors call its folder.

    Raises:
        UsageError: names a weight that did not come from the files.
    """
    of_another_shape = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in mismatched)
    for names, reason in ((sorted(missing), "not in its files"), (of_another_shape, "of another shape in its files")):
        if names:
            raise UsageError(
                f"{what}: {_some(names)} of {type(model).__name__} is {reason}, and would be made up at random; "
                "give the whole checkpoint, with the config.json that belongs to it"
            )


@contextmanager
def only_whole_models() -> Iterator[None]:
    """Check every model that transformers loads meanwhile: a policy, its reference model, reward models.

    Raises:
        UsageError: as `check_is_whole`, instead of a report that is only logged.
    """
    with load_reports(
        lambda model, path, missing, mismatched: check_is_whole(
            model, missing=missing, mismatched=mismatched, what=f"the model {path}"
        )
    ):
        yield


def warn_of_made_up_weights(model: torch.nn.Module) -> None:
    """Warn about weights of a loaded model that did not come from its files; a script may have made them itself.

    transformers marks each weight that it reads from a file. A model without any mark was not loaded. Adapters are left
    out: they are new, or read by PEFT.
    """
    base = unwrap(model)
    adapters = _adapter_weights(base)
    weights = {name: weight for name, weight in base.named_parameters() if id(weight) not in adapters}
    read = {name for name, weight in weights.items() if getattr(weight, "_is_hf_initialized", False)}
    made_up = sorted(weights.keys() - read)
    if read and made_up:
        warnings.warn(
            f"{_some(made_up)} of this {type(base).__name__} did not come from its files, while its other weights did; "
            "if you did not set it yourself, it is random: give the whole checkpoint, with the config.json that "
            "belongs to it",
            stacklevel=3,
        )


def _adapter_weights(base: torch.nn.Module) -> Collection[int]:
    found: set[int] = set()
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            for name in module.adapter_layer_names:
                layer = getattr(module, name)
                found |= {id(weight) for weight in (layer.parameters() if hasattr(layer, "parameters") else ())}
        elif isinstance(module, AuxiliaryTrainingWrapper):
            found |= {id(weight) for weight in module.parameters()}
    return found


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
