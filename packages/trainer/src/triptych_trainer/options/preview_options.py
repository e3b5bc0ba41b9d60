"""What ``triptych preview`` takes: the options of the data package's own command, and what a run does with the rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.preview.options import parser as data_parser

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.tool_options import TimedToolOptions

__all__ = ["ShownOptions", "parser"]


@dataclass(kw_only=True)
class ShownOptions:
    """Contains the option of a preview for ``triptych sft``."""

    sft: bool = field(default=False, metadata={"help": "show what `triptych sft` trains; refusals are its own"})


def parser() -> OptionParser:
    """Return the command's parser."""
    made = data_parser("triptych preview")
    add_options(made, AnswerOptions, title="answers, as for train (boxes as the model sees them need --model)")
    add_options(
        made, TimedToolOptions, title="tools, as for train: what an environment shows first is at the prompt's end"
    )
    add_options(made, ShownOptions, title="conversations, as for sft")
    return made
