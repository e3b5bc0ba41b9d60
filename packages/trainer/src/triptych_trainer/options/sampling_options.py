"""What `eval` and `rollout` take about sampling; importing it loads nothing heavy, so that help comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.limit import LIMIT

from triptych_trainer.options.default_rewards import DefaultRewards
from triptych_trainer.options.page_options import PageOptions

__all__ = ["SamplingOptions"]


@dataclass(kw_only=True)
class SamplingOptions(PageOptions):
    """Says how a model's completions are sampled and scored, and what their page marks."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "verify_model": ("on", "off"),
        "dtype": ("auto", "bfloat16", "float16", "float32"),
    }
    LEAST: ClassVar[Mapping[str, int]] = {
        "limit": 0,
        "batch_size": 1,
        "num_generations": 1,
        "max_completion_length": 1,
        "temperature": 0,
        "seed": 0,
    }
    MOST: ClassVar[Mapping[str, int]] = {"seed": 2**32 - 1}

    reward: list[str] = field(
        default_factory=lambda: DefaultRewards(["accuracy"]),
        metadata={"metavar": "NAME", "help": "the rewards, as for train"},
    )
    family: str | None = field(
        default=None, metadata={"metavar": "CLASS", "help": "an adapter of your own for the models, as for train"}
    )
    num_generations: int = field(default=1, metadata={"help": "completions per prompt"})
    temperature: float = field(default=0.0, metadata={"help": "temperature of sampling; 0 decodes greedily"})
    max_completion_length: int = field(default=256, metadata={"help": "most tokens of a completion"})
    batch_size: int = field(default=8, metadata={"help": "prompts that are sampled for at a time"})
    limit: int = field(default=0, metadata=LIMIT)
    dtype: str = field(default="auto", metadata={"help": "precision of the weights; auto: that of the checkpoint"})
    verify_model: str = field(default="on", metadata={"help": "compare with its own transformers forward"})
    seed: int = field(default=0, metadata={"help": "seed of sampling"})
    quiet: bool = field(default=False, metadata={"help": "print only warnings, errors and the last lines"})
