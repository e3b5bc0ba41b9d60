"""``triptych check``: the data package's check, with what rewards say of answers and what a model reads of tools."""

import argparse
from collections.abc import Sequence

from triptych_data.check import check
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.check_options import parser
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.tool_options import ToolOptions
from triptych_trainer.prompts.expected import look_at_answers

__all__ = ["main", "show_tools"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome("triptych check", lambda: _check(parser().parse_args(argv)))


def _check(namespace: argparse.Namespace) -> int:
    show_tools(collected(ToolOptions, namespace))
    return check(namespace, further=look_at_answers(collected(AnswerOptions, namespace).reward))


def show_tools(options: ToolOptions) -> None:
    """Import the tools and the environment of a run, and print what the model is told of them.

    Raises:
        UsageError: one cannot be found, loaded or described.
    """
    if not options.tools and options.environment is None:
        return
    # brings transformers, which a check without tools does without
    from triptych_trainer.trajectories.environments import Environments
    from triptych_trainer.trajectories.shown import every_tool, in_words

    factory = read_environment(options.environment)
    environments = None if factory is None else Environments(factory)
    for tool in every_tool(read_tools(options.tools), environments).values():
        print("\n".join(in_words(tool)))
