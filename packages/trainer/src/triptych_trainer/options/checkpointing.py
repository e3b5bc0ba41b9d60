"""``--gradient_checkpointing auto``: the third word, and how a choice is written into the options."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from triptych_trainer.options.words import true_or_false

if TYPE_CHECKING:
    from trl import GRPOConfig

__all__ = ["AUTO", "CHECKPOINTING", "auto_or_bool", "set_checkpointing"]

AUTO = "auto"
CHECKPOINTING = "gradient_checkpointing"
_NAMES = (CHECKPOINTING, "activation_checkpointing")
"""Since transformers 5.21 the trainer reads the second name, and the first one mirrors it."""


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
    for name in _NAMES:
        if hasattr(args, name):
            setattr(args, name, on)
