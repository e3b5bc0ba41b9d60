"""`triptych preview FILE...`: a dataset as one page, before a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from triptych_data import Example
from triptych_data.model_tokens import ModelTokens
from triptych_data.option_parser import collected
from triptych_data.preview.collecting import Source, Trained
from triptych_data.preview.command import opened, write_preview
from triptych_data.prompt_settings import PromptSettings
from triptych_data.rows import SourceRow
from triptych_data.shared_options import SharedOptions, shared_options

from triptych_trainer.commands.check import show_tools
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.options.answer_options import AnswerOptions
from triptych_trainer.options.default_rewards import DefaultRewards, named_rewards
from triptych_trainer.options.own_code import read_tools
from triptych_trainer.options.preview_options import ShownOptions, parser
from triptych_trainer.options.tool_options import TimedToolOptions
from triptych_trainer.prompts.expected import look_at_answers
from triptych_trainer.trajectories.turn_options import TurnOptions

if TYPE_CHECKING:
    from triptych_trainer.trajectories.environments import Environments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every row passes, 1 when a run would refuse some, 2 without a page and one line why."""
    return outcome("triptych preview", lambda: _preview(parser().parse_args(argv)))


def _preview(namespace: argparse.Namespace) -> int:
    shared = shared_options(namespace)
    tools = collected(TimedToolOptions, namespace)
    turns = TurnOptions(tool_seconds=tools.tool_seconds)
    turns.check(has_tools=bool(tools.tools or tools.environment), scale_rewards="group")
    environments = show_tools(tools, seconds=tools.tool_seconds)
    sources = _begun(opened(shared, needs_prompt=environments is None), environments)
    model = _model(shared)
    answers = collected(AnswerOptions, namespace)
    if collected(ShownOptions, namespace).sft:
        if not isinstance(answers.reward, DefaultRewards):
            raise UsageError("--reward: conversations are trained on without rewards; leave it out, or --sft")
        sources, settings, trained = _conversations(sources, tools, model, shared)
        return write_preview(namespace, sources, model=model, settings=settings, trained=trained)
    sources, settings = _with_tools(sources, tools, environments, model, shared)
    further = look_at_answers(
        named_rewards(answers.reward, has_environment=environments is not None),
        environments=() if environments is None else environments.names,
    )
    return write_preview(namespace, sources, model=model, settings=settings, further=further)


def _begun(sources: list[Source], environments: Environments | None) -> list[Source]:
    """The sources with what an environment shows first."""
    if environments is None:
        return sources
    from triptych_trainer.trajectories.shown import begun_with

    return _changed(sources, begun_with(environments))


def _conversations(
    sources: list[Source], options: TimedToolOptions, model: ModelTokens | None, shared: SharedOptions
) -> tuple[list[Source], PromptSettings, Trained]:
    """The sources as whole conversations, the settings by which they are written, and what `sft` trains of them."""
    if options.environment:
        raise UsageError("--sft reads what an environment showed from the rows; leave out --environment")
    if model is None or shared.model is None:
        raise UsageError("--sft needs --model, whose chat template and tokens say what is trained")
    from triptych_trainer.sft.conversation import conversation
    from triptych_trainer.sft.labels import whole_settings
    from triptych_trainer.sft.row_check import stored_end_ids
    from triptych_trainer.sft.shown import trained_texts
    from triptych_trainer.sft.tools import tool_dress

    end_ids = stored_end_ids(shared.model, model.processor, revision=shared.loading.model_revision)
    dress, settings = tool_dress(model.processor, shared.settings, read_tools(options.tools), end_ids=end_ids)
    trained = trained_texts(model, settings, end_ids=end_ids)

    def whole(example: Example) -> Example:
        return conversation(example if dress is None else dress(example))

    return _changed(sources, whole), whole_settings(settings), trained


def _changed(sources: list[Source], change: Callable[[Example], Example]) -> list[Source]:
    """The sources with every example changed as it is read."""

    def reading(read: Callable[[SourceRow], Example]) -> Callable[[SourceRow], Example]:
        return lambda row: change(read(row))

    return [replace(source, read=reading(source.read), has_environment=True) for source in sources]


def _with_tools(
    sources: list[Source],
    options: TimedToolOptions,
    environments: Environments | None,
    model: ModelTokens | None,
    shared: SharedOptions,
) -> tuple[list[Source], PromptSettings]:
    """The sources with the list of tools, and how a run with these tools makes prompts of rows."""
    if not options.tools and environments is None:
        return sources, shared.settings
    from triptych_trainer.commands.previewed_tools import previewed_tools

    with_tools, settings = previewed_tools(
        read_tools(options.tools),
        environments,
        processor=None if model is None else model.processor,
        settings=shared.settings,
        model=shared.model,
        revision=shared.loading.model_revision,
    )
    return [replace(source, with_tools=with_tools) for source in sources], settings


def _model(shared: SharedOptions) -> ModelTokens | None:
    if shared.model is None:
        return None
    # brings torch, which a page without a model does without
    from triptych_trainer.models.load import chosen_processor
    from triptych_trainer.upstream.quiet import quiet_libraries

    quiet_libraries()
    processor = chosen_processor(shared.model, shared.loading, shared.prompt, option="--model")
    return ModelTokens.of(processor)
