"""What `eval` plays rollouts with: the tools and environments of its command line, as a run plays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

from triptych_trainer.commands.light_checks import turns_of
from triptych_trainer.grpo.sampler import end_ids_of
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.tool_options import PlayOptions
from triptych_trainer.prompts.example_table import Table
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play
from triptych_trainer.trajectories.turn_options import TurnOptions

__all__ = ["Playing", "playing_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Playing:
    """Contains tools, environments and limits that are not yet joined with a model."""

    tools: Sequence[Callable[..., Any]]
    factory: Callable[[], Any] | Mapping[str, Callable[[], Any]] | None
    turns: TurnOptions
    calling_turns: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of several environments, of which each row chooses one."""
        return tuple(self.factory) if isinstance(self.factory, Mapping) else ()

    def play(
        self,
        model: Any,
        preparer: PromptPreparer,
        *,
        table: Table,
        generation: GenerationConfig,
        say: Callable[[str], object],
    ) -> Play:
        """Return what plays the rollouts of one model; its environments are new ones.

        Raises:
            UsageError: the model or its chat template takes no tools.
        """
        from triptych_trainer.grpo.trl.conversations import player

        assert generation.max_new_tokens is not None
        return player(
            model,
            preparer=preparer,
            end_ids=end_ids_of(generation),
            tools=self.tools,
            environments=None if self.factory is None else Environments(self.factory, seconds=self.turns.tool_seconds),
            row_of=lambda row, read: {**table.columns(row, read), "prompt": table.prompt(row, read)},
            limits=Limits(
                completion_tokens=generation.max_new_tokens,
                calling_turns=self.calling_turns,
                kept_images=self.turns.kept_images,
                tool_seconds=self.turns.tool_seconds,
            ),
            say=say,
        )


def playing_of(options: PlayOptions) -> Playing | None:
    """Return what a command line plays with, or None if it names neither tools nor an environment.

    Raises:
        UsageError: one cannot be loaded, or an option of turns is given without them.
    """
    turns = turns_of(options)
    tools, factory = read_tools(options.tools), read_environment(options.environment)
    if not tools and factory is None:
        return None
    calling_turns = turns.calling_turns(options.max_tool_calling_iterations)
    return Playing(tools=tools, factory=factory, turns=turns, calling_turns=calling_turns)
