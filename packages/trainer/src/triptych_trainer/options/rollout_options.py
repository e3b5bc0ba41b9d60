"""What ``triptych rollout`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.option_parser import OptionParser, add_options, given_path
from triptych_data.shared_options import add_shared_options

from triptych_trainer.options.default_rewards import DefaultRewards
from triptych_trainer.options.sampling_options import SamplingOptions
from triptych_trainer.options.tool_options import PlayOptions

__all__ = ["OF_VLLM", "RolloutOptions", "parser"]

OF_VLLM = ("vllm_gpu_memory_utilization", "vllm_tensor_parallel_size", "vllm_max_model_length")
"""The options that only vLLM reads."""


@dataclass(kw_only=True)
class RolloutOptions(SamplingOptions):
    """Contains the options that ``rollout`` takes in addition to those of every command; the defaults are a run's."""

    LEAST: ClassVar[Mapping[str, int]] = {"num_generations": 2, "vllm_tensor_parallel_size": 1}
    MOST: ClassVar[Mapping[str, int]] = {"vllm_gpu_memory_utilization": 1}

    reward: list[str] = field(
        default_factory=lambda: DefaultRewards(["accuracy", "format"]),
        metadata={"metavar": "NAME", "help": "the rewards, as for train"},
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "a weight for each reward, as for train (default: 1 each)"}
    )
    num_generations: int = field(default=8, metadata={"help": "completions per prompt"})
    temperature: float = field(default=1.0, metadata={"help": "temperature of sampling"})
    max_completion_length: int = field(default=512, metadata={"help": "most tokens of a completion"})
    keep_mixed: str | None = field(
        default=None,
        metadata={"metavar": "FILE", "help": "write the rows whose completions are not all worth the same here"},
    )
    use_vllm: bool = field(default=False, metadata={"help": "sample with vLLM instead of transformers"})
    vllm_gpu_memory_utilization: float = field(default=0.9, metadata={"help": "share of the GPU that vLLM takes"})
    vllm_tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs that vLLM splits the model over"})
    vllm_max_model_length: int | None = field(
        default=None, metadata={"help": "most tokens of prompt and completion (default: the model's)"}
    )


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych rollout",
        usage="triptych rollout --model NAME --data FILE ... -o DIR [options]",
        description="Sample completions for the rows of a dataset as a run would, score them, and show them as a page.",
        epilog="`triptych score DIR --reward ...` scores what was sampled by other rewards, without the model.",
    )
    made.add_argument(
        "-o", "--out", type=given_path, metavar="DIR", required=True, help="new folder for rollouts and page"
    )
    add_shared_options(made, needs_model=True, model_help="the model to sample from")
    add_options(made, RolloutOptions, title="the rollouts")
    add_options(made, PlayOptions, title="tools, as for train")
    return made
