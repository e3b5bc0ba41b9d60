"""Tools in a plan: prompts as the run would write them, and how many turns and images are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triptych_data import Example
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.errors import UsageError
from triptych_trainer.forecast.skeleton import Skeleton
from triptych_trainer.forecast.turns import PlannedTurns, image_sizes, planned_turns
from triptych_trainer.forward.turn_cache import why_not_kept
from triptych_trainer.grpo.trl.conversations import writers_of
from triptych_trainer.models.families import family_of
from triptych_trainer.options.arguments import RunConfig, prompt_settings
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.plan_options import PlanOptions
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.training.train import turn_options
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.shown import begun_with, tools_by_environment

__all__ = ["PlannedTools", "planned_tools"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTools:
    """Says what tools change in a plan."""

    turns: PlannedTurns
    settings: PromptSettings
    begun: Callable[[Example], Example]
    """From a row to its prompt as it is played: with its list of tools, and what its environment shows first."""


def planned_tools(config: RunConfig, own: PlanOptions, processor: Any, skeleton: Skeleton) -> PlannedTools | None:
    """Return what the tools of a command line change, or None if it has none.

    Raises:
        UsageError: how many turns are to be counted is not said, or they cannot be counted for this model.
    """
    tools, factory = read_tools(config.run.tools), read_environment(config.run.environment)
    if not tools and factory is None:
        if own.turns is not None or own.turn_image:
            given = "--turns" if own.turns is not None else "--turn_image"
            raise UsageError(f"{given}: without --tools and --environment a rollout has one turn; leave it out")
        return None
    count = _count(config, own)
    family = family_of(skeleton.base)
    kind = type(skeleton.base).__name__
    if family.no_later_images is not None:
        raise UsageError(f"--tools, --environment: {kind} takes no images after its prompt: {family.no_later_images}")
    if (reason := why_not_kept(family, skeleton.base)) is not None:
        raise UsageError(
            f"--tools, --environment: rollouts of {kind} prefill their whole history again at each turn, because "
            f"{reason}; what that takes is not forecast, so leave them out to plan the run without them"
        )
    environments = None if factory is None else Environments(factory, seconds=config.run.tool_seconds)
    known = tools_by_environment(tools, environments)
    tokenizer = getattr(processor, "tokenizer", processor)
    ends = skeleton.base.generation_config.eos_token_id if skeleton.base.can_generate() else None
    end_ids = [*(ends if isinstance(ends, list) else [] if ends is None else [ends]), tokenizer.eos_token_id]
    writers, settings = writers_of(processor, prompt_settings(config), known, end_ids=end_ids)
    name, writer = next(iter(writers.items()))
    first = next(iter(known[name]))
    turns = planned_turns(writer, family=family, name=first, count=count, sizes=image_sizes(own.turn_image))
    turns.runs(config.grpo.max_completion_length)  # refuses turns that do not fit
    show = None if environments is None else begun_with(environments)

    def begun(example: Example) -> Example:
        row = ExampleTable([example]).columns(0)
        chosen = None if environments is None else environments.name_of(row, where=example.source)
        return writers[chosen].dressed(example if show is None else show(example))

    return PlannedTools(turns=turns, settings=settings, begun=begun)


def _count(config: RunConfig, own: PlanOptions) -> int:
    if turn_options(config.run).kept_images is not None:
        raise UsageError(
            f"--history {config.run.history}: a plan counts rollouts that are one sample each; leave it out to plan "
            "the run with --history full, which takes more"
        )
    most = turn_options(config.run).calling_turns(config.grpo.max_tool_calling_iterations)
    if own.turns is None and most is None:
        raise UsageError(
            "--tools, --environment: how many turns a rollout has is known only in the run; say how many to count, "
            "such as --turns 3, and what images each brings, such as --turn_image 448x448"
        )
    if own.turns is not None and most is not None and own.turns > most:
        raise UsageError(f"--turns {own.turns}: the run answers at most {most}; lower it, or raise that limit")
    return own.turns if own.turns is not None else most or 0
