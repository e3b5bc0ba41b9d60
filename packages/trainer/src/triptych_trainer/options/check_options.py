"""What ``triptych check`` takes: the options of the data package's own command, and the rewards of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.check_options import parser as data_parser
from triptych_data.option_parser import OptionParser, add_options

__all__ = ["AnswerOptions", "parser"]


@dataclass(kw_only=True)
class AnswerOptions:
    """What is checked of the expected answers."""

    reward: list[str] | None = field(
        default=None,
        metadata={"metavar": "NAME", "help": "refuse rows whose answer could never earn these rewards, as train does"},
    )


def parser() -> OptionParser:
    """The command's parser."""
    made = data_parser()
    add_options(made, AnswerOptions, title="answers, as for train (boxes as the model sees them need --model)")
    return made
