"""``triptych check``: the data package's check, and what the rewards of a run say of the expected answers."""

import argparse
from collections.abc import Sequence
from functools import partial

from triptych_data.check import check
from triptych_data.inspect_row import FurtherLook
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome

from triptych_trainer.errors import UsageError
from triptych_trainer.options.check_options import AnswerOptions, parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome("triptych check", lambda: _check(parser().parse_args(argv)))


def _check(namespace: argparse.Namespace) -> int:
    options = collected(AnswerOptions, namespace)
    return check(namespace, further=_look(options.reward) if options.reward else None)


def _look(specs: Sequence[str]) -> FurtherLook:
    from triptych_trainer.prompts.expected import answer_checks, check_answer
    from triptych_trainer.rewards import load_reward
    from triptych_trainer.rewards.loading import PREFIX

    try:
        rewards = [load_reward(spec) for spec in specs if not spec.startswith(PREFIX)]
    except ValueError as error:
        raise UsageError(f"--reward: {error}") from error
    return partial(check_answer, checks=answer_checks(rewards))
