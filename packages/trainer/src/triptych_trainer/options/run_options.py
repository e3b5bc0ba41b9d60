"""What Triptych adds to TRL's options of a run; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_trainer.options.common_options import CommonArguments
from triptych_trainer.options.default_rewards import DefaultRewards

__all__ = ["RunArguments"]


@dataclass(kw_only=True)
class RunArguments(CommonArguments):
    """Contains what Triptych adds to TRL's options."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "group_sharing": ("auto", "passes", "off"),
        "shared_attention": ("auto", "varlen", "masked"),
        "placement": ("in_place", "first"),
        "vllm_weight_transfer": ("auto", "nccl", "folder"),
        "demo": ("places", "look"),
    }
    LEAST: ClassVar[Mapping[str, int]] = {
        "completions_per_slice": 1,
        "warn_after_steps": 0,
        "rollout_lag": 0,
        "rollout_seconds": 1,
        "memory_gib": 0,
    }

    reward: list[str] = field(
        default_factory=lambda: DefaultRewards(["accuracy", "format"]),
        metadata={
            "metavar": "NAME",
            "help": "a reward of docs/rewards.md, module:function, file.py:function or model:NAME",
        },
    )
    verdict: str | None = field(
        default=None,
        metadata={"metavar": "REWARD", "help": "reward that says right or wrong in report.html (default: accuracy)"},
    )
    tools: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "functions for the model to call, as file.py:function"},
    )
    environment: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "a class whose methods the model calls; several as name=file.py:Class"},
    )
    max_turns: int | None = field(
        default=None, metadata={"help": "messages of the model in a rollout (default: --max_tool_calling_iterations)"}
    )
    history: str = field(
        default="full",
        metadata={
            "help": "full: a rollout is one sample; last_2: each turn is one, with the last 2 images that arrived"
        },
    )
    advantage: str = field(
        default="episode",
        metadata={
            "help": "episode: the advantage of the rollout; gigpo: also compare turns that began in the same state"
        },
    )
    step_advantage_weight: float | None = field(
        default=None, metadata={"help": "with gigpo, the weight of the comparison of turns (default: 1)"}
    )
    step_gamma: float | None = field(
        default=None, metadata={"help": "with gigpo, the discount of later rewards (default: 0.95)"}
    )
    tool_seconds: float = field(
        default=60.0, metadata={"help": "most time for an async tool or method of an environment"}
    )
    mask_over_turn: bool = field(
        default=False,
        metadata={"help": "leave out rollouts that ran into a limit; the loss is divided by what remains"},
    )
    group_sharing: str = field(
        default="auto",
        metadata={"help": "forward a prompt once a step, once a pass, or for each completion"},
    )
    shared_attention: str = field(
        default="auto",
        metadata={"help": "attend shared prompts without masks (varlen) or under masks; auto: varlen on CUDA"},
    )
    completions_per_slice: int | None = field(
        default=None,
        metadata={"help": "score N completions of a group at a time, in less memory"},
    )
    warn_after_steps: int = field(
        default=20, metadata={"help": "warn after N steps in a row that teach nothing; 0: never"}
    )
    mismatch_kl_warn: float | None = field(
        default=0.015,
        metadata={"help": "with vLLM, warn when it samples from a model that differs more from the trained one"},
    )
    mismatch_kl_limit: float | None = field(
        default=None,
        metadata={"help": "with vLLM, end the run when the difference is larger (default: never)"},
    )
    rollout_lag: int = field(
        default=0,
        metadata={"help": "let a vLLM server sample N generations ahead of the training"},
    )
    rollout_seconds: float = field(default=1800.0, metadata={"help": "how long a vLLM server may take to sample"})
    vllm_weight_transfer: str = field(
        default="auto",
        metadata={"help": "how a vLLM server gets the weights; auto: nccl if the trainer has a GPU"},
    )
    rollouts: bool = field(default=True, metadata={"help": "write every generation as parquet, and report.html"})
    memory_forecast: bool = field(
        default=True, metadata={"help": "say what memory the run will need, and what it took"}
    )
    memory_gib: float | None = field(
        default=None,
        metadata={"help": "memory that the run may take, for --gradient_checkpointing auto (default: what is free)"},
    )
    demo: str = field(
        default="places",
        metadata={"help": "the built-in demo: `look` has a tool"},
    )
    placement: str = field(
        default="in_place",
        metadata={"help": "demo `places` only: images at their markers, or all first"},
    )
    blank_tool: bool = field(default=False, metadata={"help": "demo `look` only: an opened box shows nothing"})
