"""``--gradient_checkpointing auto``: the third word, and how a choice is written into the options."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from triptych_trainer.errors import UsageError
from triptych_trainer.options.words import true_or_false

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import GRPOConfig

__all__ = ["AUTO", "CHECKPOINTING", "auto_or_bool", "check_checkpointing", "set_checkpointing"]

AUTO = "auto"
CHECKPOINTING = "gradient_checkpointing"
_ENTRIES = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop")
"""What torch's checkpointing takes, without the contexts, in which results of attention are kept."""
_OF_TRANSFORMERS = ("every_n_layers", "offload")


def auto_or_bool(word: str) -> str | bool:
    """Read the value of the option.

    Raises:
        ArgumentTypeError: it is another word.
    """
    if word == AUTO:
        return word
    try:
        return true_or_false(word)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"expected auto, true or false, got {word!r}") from error


def set_checkpointing(args: GRPOConfig, on: bool) -> None:
    """Switch gradient checkpointing on or off in parsed options, under every name that transformers has for it."""
    from triptych_trainer.upstream.transformers_names import checkpointing_names  # the help imports no torch

    for name in checkpointing_names(args):
        setattr(args, name, on)


def check_checkpointing(args: TrainingArguments) -> None:
    """Check that checkpointing is told only what it can be told each time that it is switched on.

    Raises:
        UsageError: names the entry.
    """
    for name in args.gradient_checkpointing_kwargs or {}:
        if name in _OF_TRANSFORMERS:
            reason = "checkpointing is off while completions are sampled or compared, and TRL switches it on without it"
        elif name not in _ENTRIES:
            reason = f"torch's checkpointing has no such entry (entries are: {', '.join(_ENTRIES)})"
        else:
            continue
        raise UsageError(
            f"--gradient_checkpointing_kwargs, --activation_checkpointing_kwargs {name}: {reason}; leave it out"
        )
