"""What ``triptych eval`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.shared_options import add_shared_options

from triptych_trainer.options.page_options import PageOptions

__all__ = ["EvalOptions", "parser"]


@dataclass(kw_only=True)
class EvalOptions(PageOptions):
    """What ``eval`` takes besides the options that every command shares."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"verify_model": ("on", "off")}
    LEAST: ClassVar[Mapping[str, int]] = {
        "limit": 0,
        "batch_size": 1,
        "num_generations": 1,
        "max_completion_length": 1,
        "temperature": 0,
    }

    base: str | None = field(
        default=None, metadata={"metavar": "NAME", "help": "a second model to compare with, such as the one before"}
    )
    reward: list[str] = field(
        default_factory=lambda: ["accuracy"], metadata={"metavar": "NAME", "help": "the rewards, as for train"}
    )
    family: str | None = field(
        default=None, metadata={"metavar": "CLASS", "help": "an adapter of your own for the models, as for train"}
    )
    num_generations: int = field(default=1, metadata={"help": "completions per prompt"})
    temperature: float = field(default=0.0, metadata={"help": "of sampling; 0 decodes greedily (the default)"})
    max_completion_length: int = field(default=256, metadata={"help": "most tokens of a completion"})
    batch_size: int = field(default=8, metadata={"help": "prompts at a time"})
    limit: int | None = field(default=None, metadata={"help": "only the first rows"})
    by: list[str] | None = field(
        default=None, metadata={"metavar": "COLUMN", "help": "columns to slice by (default: those with few values)"}
    )
    position: str | None = field(
        default=None,
        metadata={
            "metavar": "COLUMN",
            "help": "column that says which image, from 1, the answer is about (default: what the answers name)",
        },
    )
    dtype: str = field(default="auto", metadata={"help": "of the weights: auto takes the checkpoint's"})
    verify_model: str = field(default="on", metadata={"help": "compare with its own transformers forward"})
    seed: int = field(default=0, metadata={"help": "of sampling (default: 0)"})
    json: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write every row and every mean here"})
    html: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write a self-contained page here"})
    quiet: bool = field(default=False, metadata={"help": "print only warnings, errors and the last lines"})


def parser() -> OptionParser:
    """The command's parser."""
    made = OptionParser(
        prog="triptych eval",
        usage="triptych eval --model NAME --data FILE ... [options]",
        description="Generate answers to held-out prompts, score them, and say where a model does well and where not.",
        epilog="Scored are the rows of --eval_data where it is given, and those of --data otherwise.",
    )
    add_shared_options(made, needs_model=True, model_help="the model to score")
    add_options(made, EvalOptions, title="the evaluation")
    return made
