"""``triptych check``: the data package's check, and what the rewards of a run say of the expected answers."""

import argparse
from collections.abc import Sequence

from triptych_data.check import check
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.check_options import parser
from triptych_trainer.prompts.expected import look_at_answers

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome("triptych check", lambda: _check(parser().parse_args(argv)))


def _check(namespace: argparse.Namespace) -> int:
    return check(namespace, further=look_at_answers(collected(AnswerOptions, namespace).reward))
