"""What ``triptych check`` takes: the options of the data package's own command, and what a run does with the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.check_options import parser as data_parser
from triptych_data.option_parser import OptionParser, add_options

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.tool_options import ToolOptions

__all__ = ["ConversationOptions", "parser"]


@dataclass(kw_only=True)
class ConversationOptions:
    """Contains the options of a check for ``triptych sft``."""

    LEAST: ClassVar[Mapping[str, int]] = {"max_length": 1}

    sft: bool = field(
        default=False, metadata={"help": "refuse the rows that `triptych sft` refuses, and no others; needs --model"}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "with --sft: most tokens of a conversation, images included"}
    )


def parser() -> OptionParser:
    """Return the command's parser."""
    made = data_parser("triptych check")
    add_options(made, AnswerOptions, title="answers, as for train (boxes as the model sees them need --model)")
    add_options(made, ToolOptions, title="tools, as for train: imported, and shown as the model reads them")
    add_options(made, ConversationOptions, title="conversations, as for sft")
    return made
