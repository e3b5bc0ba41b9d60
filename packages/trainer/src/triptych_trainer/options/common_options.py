"""What Triptych adds to TRL's options of every training, by GRPO or by SFT; importing it loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.options import DataOptions, PromptOptions

__all__ = ["CommonArguments"]


@dataclass(kw_only=True)
class CommonArguments(DataOptions, PromptOptions):
    """Contains the options that `train` and `sft` have in common."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"verify_model": ("on", "off")}
    LEAST: ClassVar[Mapping[str, int]] = {
        "image_threads": 1,
        "num_processes": 1,
        "image_cache_gb": 0,
        "vision_learning_rate": 0,
    }

    family: str | None = field(
        default=None,
        metadata={"metavar": "CLASS", "help": "an adapter of your own for the model: module:Class or file.py:Class"},
    )
    freeze_vision_modules: bool = field(
        default=False,
        metadata={"help": "train the language model only; images are encoded once for all passes"},
    )
    merge_adapter: bool = field(
        default=False,
        metadata={"help": "merge a LoRA folder into its model first; else its adapters are trained further"},
    )
    vision_learning_rate: float | None = field(
        default=None,
        metadata={"help": "learning rate outside the language model (default: --learning_rate)"},
    )
    verify_model: str = field(
        default="on",
        metadata={"help": "compare the model with its own transformers forward at first use"},
    )
    image_cache_gb: float = field(default=2.0, metadata={"help": "host memory for decoded images, in GiB"})
    image_threads: int = field(default=2, metadata={"help": "threads that decode images ahead of the step"})
    accelerate_config: str | None = field(
        default=None,
        metadata={"metavar": "NAME", "help": "start several processes: fsdp2, zero2, zero3, multi_gpu, or a file"},
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "number of processes (default: what that file says)"}
    )
    quiet: bool = field(default=False, metadata={"help": "print only warnings, errors and the last lines"})
