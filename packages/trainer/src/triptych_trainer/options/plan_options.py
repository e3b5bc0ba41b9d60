"""What ``triptych plan`` takes in addition to the options of a run; importing it loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from triptych_data.limit import LIMIT
from triptych_data.option_parser import OptionParser, add_options
from triptych_data.options import DataOptions, PromptOptions
from triptych_data.shared_options import add_model

__all__ = ["A100", "SHARDINGS", "PlanOptions", "Sharding", "own_parser", "parser"]

A100 = {"tflops": 312.0, "memory_bandwidth": 2039.0, "mfu": 0.35}
"""bfloat16 peak and bandwidth of an A100 80 GB by its data sheet, and a guess at the share that training gets."""

Sharding = Literal["none", "optimizer", "gradients", "full"]
"""The parts that ranks split among them: none (DDP), or those of ZeRO-1, of ZeRO-2, or of ZeRO-3 and FSDP."""
SHARDINGS: tuple[Sharding, ...] = ("none", "optimizer", "gradients", "full")


@dataclass(kw_only=True)
class PlanOptions:
    """Contains the options that ``plan`` takes in addition to those of ``train``."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"device": ("auto", "cpu", "cuda"), "sharding": SHARDINGS}
    LEAST: ClassVar[Mapping[str, int]] = {"num_processes": 1, "limit": 0, "turns": 0, "mean_completion_length": 0}
    ABOVE: ClassVar[Mapping[str, int]] = dict.fromkeys(("memory_gib", "tflops", "memory_bandwidth", "mfu"), 0)
    MOST: ClassVar[Mapping[str, int]] = {"mfu": 1}

    sft: bool = field(
        default=False, metadata={"help": "plan a run of `triptych sft`, from its options: memory and steps, no hours"}
    )
    device: str = field(default="auto", metadata={"help": "kind of device to plan for; auto: that of this machine"})
    memory_gib: float | None = field(
        default=None, metadata={"help": "say whether the run fits (default: the device that is here)"}
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "number of devices (default: those of this launch)"}
    )
    sharding: str | None = field(
        default=None,
        metadata={
            "metavar": "WORD",
            "help": f"what the devices split: {', '.join(SHARDINGS)} (default: by --deepspeed and --fsdp)",
        },
    )
    tflops: float | None = field(
        default=None,
        metadata={"help": f"peak TFLOP/s of a device in training precision (default for cuda: {A100['tflops']:g})"},
    )
    memory_bandwidth: float | None = field(
        default=None, metadata={"help": f"memory bandwidth in GB/s (default for cuda: {A100['memory_bandwidth']:g})"}
    )
    mfu: float | None = field(
        default=None, metadata={"help": f"share of the peak that a run gets (default: {A100['mfu']})"}
    )
    mean_completion_length: float | None = field(
        default=None, metadata={"help": "completion length for the hours (default: --max_completion_length)"}
    )
    turns: int | None = field(
        default=None, metadata={"help": "with tools: answered turns of every rollout (default: the most allowed)"}
    )
    turn_image: list[str] = field(
        default_factory=list,
        metadata={"metavar": "WxH", "help": "with tools: the images of a turn, such as 448x336 (default: text only)"},
    )
    limit: int = field(default=0, metadata=LIMIT)
    no_alternatives: bool = field(default=False, metadata={"help": "leave out what each setting would save"})
    calibrate: bool = field(
        default=False, metadata={"help": "load the model and measure its heaviest policy pass here"}
    )
    json: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write the whole plan here"})


def own_parser() -> OptionParser:
    """Return a parser of the command's own options, which leaves those of a run to the run's parser."""
    made = OptionParser(
        prog="triptych plan",
        usage="triptych plan --model NAME --data FILE ... [options]",
        description="Forecast memory, steps and hours of a run. The model's weights are not read.",
        epilog="Every other option of `train` is taken as well; `train --help` and `train --help_all` list them.",
    )
    add_options(made, PlanOptions, title="the plan")
    return made


def parser() -> OptionParser:
    """Return a parser that prints the help."""
    made = own_parser()
    add_model(made.add_argument_group("the run, as for train"))
    add_options(made, DataOptions, title="rows and images, as for train")
    add_options(made, PromptOptions, title="prompts, as for train")
    return made
