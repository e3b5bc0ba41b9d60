"""What ``triptych eval`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.shared_options import add_shared_options

from triptych_trainer.options.sampling_options import SamplingOptions
from triptych_trainer.options.tool_options import PlayOptions

__all__ = ["EvalOptions", "parser"]


@dataclass(kw_only=True)
class EvalOptions(SamplingOptions):
    """Contains the options that ``eval`` takes in addition to those that every command shares."""

    base: str | None = field(
        default=None, metadata={"metavar": "NAME", "help": "a second model to compare with, such as the base model"}
    )
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
    json: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write every row and every mean here"})
    html: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write a self-contained page here"})


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych eval",
        usage="triptych eval --model NAME --data FILE ... [options]",
        description="Generate answers to held-out prompts, score them, and say where a model does well and where not.",
        epilog="Scored are the rows of --eval_data where it is given, and those of --data otherwise.",
    )
    add_shared_options(made, needs_model=True, model_help="the model to score")
    add_options(made, EvalOptions, title="the evaluation")
    add_options(made, PlayOptions, title="tools, as for train")
    return made
