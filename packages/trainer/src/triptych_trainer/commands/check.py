"""``triptych check``: the data package's check, with what rewards say of answers and what a model reads of tools."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych_data.check import check
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome

from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.check_options import parser
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.tool_options import ToolOptions
from triptych_trainer.prompts.expected import look_at_answers

if TYPE_CHECKING:
    from triptych_trainer.trajectories.environments import Environments

__all__ = ["main", "show_tools"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome("triptych check", lambda: _check(parser().parse_args(argv)))


def _check(namespace: argparse.Namespace) -> int:
    environments = show_tools(collected(ToolOptions, namespace))
    further = look_at_answers(
        named_rewards(collected(AnswerOptions, namespace).reward, has_environment=environments is not None),
        environments=() if environments is None else environments.names,
    )
    return check(namespace, further=further, needs_prompt=environments is None)


def show_tools(options: ToolOptions, *, seconds: float = 60.0) -> Environments | None:
    """Import the tools and the environments of a run, and print what the model is told of them; returns the latter.

    Raises:
        UsageError: one cannot be found, loaded or described.
    """
    if not options.tools and not options.environment:
        return None
    # brings transformers, which a check without tools does without
    from triptych_trainer.trajectories.environments import Environments
    from triptych_trainer.trajectories.shown import in_words, tools_by_environment

    factory = read_environment(options.environment)
    environments = None if factory is None else Environments(factory, seconds=seconds)
    for name, tools in tools_by_environment(read_tools(options.tools), environments).items():
        if name is not None:
            print(f"rows whose environment is {name}:")
        for tool in tools.values():
            print("\n".join(in_words(tool)))
        if not tools:
            print("no tools: the environment has no public method except reset and those of rewards")
    return environments
