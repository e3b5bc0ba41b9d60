"""``triptych check``: the data package's check, with what rewards say of answers and what a model reads of tools."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych_data.check import check
from triptych_data.inspect_row import FurtherLook
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome
from triptych_data.shared_options import shared_options

from triptych_trainer.errors import UsageError
from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.check_options import ConversationOptions, parser
from triptych_trainer.options.default_rewards import DefaultRewards, named_rewards
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.tool_options import ToolOptions
from triptych_trainer.prompts.expected import look_at_answers

if TYPE_CHECKING:
    from triptych_trainer.trajectories.environments import Environments

__all__ = ["main", "show_tools"]

_FEW_ROWS = 16
"""Below this number of rows, a generation of a usual run may take more prompts than there are."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome("triptych check", lambda: _check(parser().parse_args(argv)))


def _check(namespace: argparse.Namespace) -> int:
    tools, own = collected(ToolOptions, namespace), collected(ConversationOptions, namespace)
    environments = show_tools(tools)
    answers = collected(AnswerOptions, namespace)
    if own.sft:
        if not isinstance(answers.reward, DefaultRewards):
            raise UsageError("--reward: conversations are trained on without rewards; leave it out, or --sft")
        return check(namespace, further=_look_at_conversations(namespace, tools, max_tokens=own.max_length))
    if own.max_length is not None:
        raise UsageError("--max_length is that of whole conversations; add --sft, or set --max_prompt_tokens")
    further = look_at_answers(
        named_rewards(answers.reward, has_environment=environments is not None),
        environments=() if environments is None else environments.names,
    )
    return check(namespace, further=further, needs_prompt=environments is None, remark=_of_few_rows)


def _of_few_rows(rows: int) -> str | None:
    """What a check cannot know of a file with few rows: whether they fill one generation of the run."""
    if not 0 < rows < _FEW_ROWS:
        return None
    return (
        f"one generation of a run takes generation_batch_size / num_generations prompts; {rows} passed, and train "
        "refuses a run that takes more"
    )


def _look_at_conversations(namespace: argparse.Namespace, tools: ToolOptions, *, max_tokens: int | None) -> FurtherLook:
    """What ``sft`` asks of each row: that it can be written as a conversation, and that its turns can be found."""
    shared = shared_options(namespace)
    if tools.environment:
        raise UsageError("--sft reads what an environment showed from the rows; leave out --environment")
    if shared.model is None:
        raise UsageError("--sft needs --model, whose chat template and tokens say what is trained")
    # brings torch and transformers, which a check without --sft does without
    from triptych_trainer.models.load import chosen_processor
    from triptych_trainer.sft.row_check import row_check_of, stored_end_ids
    from triptych_trainer.sft.tools import tool_dress
    from triptych_trainer.upstream.quiet import quiet_libraries

    quiet_libraries()
    processor = chosen_processor(shared.model, shared.loading, shared.prompt, option="--model")
    end_ids = stored_end_ids(shared.model, processor, revision=shared.loading.model_revision)
    dress, settings = tool_dress(processor, shared.settings, read_tools(tools.tools), end_ids=end_ids)
    rows = row_check_of(processor, settings, end_ids=end_ids, max_tokens=max_tokens, dress=dress)
    return lambda example, sizes, model_sizes: rows.look(example, sizes)


def show_tools(options: ToolOptions, *, seconds: float = 60.0) -> Environments | None:
    """Import the tools and the environments of a run, and print what the model is told of them; returns the latter.

    Raises:
        UsageError: one cannot be found, loaded or described.
    """
    if not options.tools and not options.environment:
        return None
    # brings transformers, which a check without tools does without
    from triptych_trainer.trajectories.environments import Environments
    from triptych_trainer.trajectories.shown import tool_in_words, tools_by_environment

    factory = read_environment(options.environment)
    environments = None if factory is None else Environments(factory, seconds=seconds)
    for name, tools in tools_by_environment(read_tools(options.tools), environments).items():
        if name is not None:
            print(f"rows whose environment is {name}:")
        for tool in tools.values():
            print("\n".join(tool_in_words(tool)))
        if not tools:
            print("no tools: the environment has no public method except reset and those of rewards")
    return environments
