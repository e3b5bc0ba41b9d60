"""Rollouts of several turns: the model writes, its calls are done, their results follow, and it writes again.

    play = Play(writers=..., preparer=..., tools=..., environments=..., ...)
    groups = play(sampler, groups, sizes)

Tokens are put one after the other: those that were sampled, then those of the results. A result that does not fit is
left out as a whole, with its images, and the rollout ends there and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from PIL import Image
from triptych_data import DataError, Example

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import ImageInputs
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.rollouts.rollout import ArrivedImage, RolloutGroup
from triptych_trainer.rollouts.sampled import Sampled, Sampler
from triptych_trainer.trajectories.async_loop import tool_loop
from triptych_trainer.trajectories.calls import Outcome, do_calls, do_messages
from triptych_trainer.trajectories.environments import Environments, is_done, tells_turns, turn_reward_of
from triptych_trainer.trajectories.features import check_features
from triptych_trainer.trajectories.history import History, bounded_history
from triptych_trainer.trajectories.images import RolloutImage
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.live import LiveRollout
from triptych_trainer.trajectories.messages import with_observation
from triptych_trainer.trajectories.replay import first_answer
from triptych_trainer.trajectories.results import Piece, as_content, pieces_digest
from triptych_trainer.trajectories.returned import pictures_of, usable
from triptych_trainer.trajectories.said import ReadMessage, take_message
from triptych_trainer.trajectories.toolbox import Tool
from triptych_trainer.trajectories.writer import TurnWriter

__all__ = ["Play"]


class Play:
    """Makes the rollouts of a batch of groups, one turn of all rollouts at a time."""

    def __init__(
        self,
        *,
        writers: Mapping[str | None, TurnWriter],
        preparer: PromptPreparer,
        read: ReadMessage,
        tools: Mapping[str, Tool],
        environments: Environments | None,
        row_of: Callable[[int, Example | None], Mapping[str, Any]],
        num_rows: Callable[[ImageInputs], int | None],
        limits: Limits,
        say: Callable[[str], object] = print,
    ) -> None:
        """Play with what is given.

        Args:
            writers: what writes turns, for each environment by name; under None where there is one for all rows.
            read: from the tokens before a message and its own tokens to the message.
            row_of: the columns of a key's row, which may have been read before, for ``reset``.
            num_rows: how many feature rows the tower makes of an image, if its inputs say so.
            say: is told of every call that failed.
        """
        self.writers = writers
        self.preparer = preparer
        self.read = read
        self.tools = tools
        self.environments = environments
        self.row_of = row_of
        self.num_rows = num_rows
        self.limits = limits
        self.say = say
        self._tokenizer = getattr(preparer.processor, "tokenizer", preparer.processor)
        self.shown: dict[int, str] = {}
        """For each row of the last batch, under its key, a digest of what its environment showed first."""
        self.answered: dict[str, Any] = {}
        """What was asked first in the last batch, and a digest of the answer (see `replay`)."""

    def __call__(self, sampler: Sampler, groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[RolloutGroup]:
        """Sample ``sizes[p]`` rollouts for each group.

        Raises:
            UsageError: a tool returned what is no message, or the chat template or an environment cannot take it.
        """
        if sampler.go_on is None:
            raise UsageError(
                "tools: this sampler cannot continue a rollout after a call; use that of a model or of vLLM"
            )
        groups, environments = self._begun(groups, sizes)
        live = [
            self.live(group, number=k, environment=own)
            for group, owned in zip(groups, environments, strict=True)
            for k, own in enumerate(owned)
        ]
        first = [one for group in sampler.sample(groups, sizes) for one in group]
        going = self._after(live, first, sampler)
        keys = [group.key for group, owned in zip(groups, environments, strict=True) for _ in owned]
        self.answered = first_answer(live, keys)
        while sampler.anywhere(bool(going)):
            room = max((self.limits.completion_tokens - len(one.behind[0]) for one in going), default=1)
            found = sampler.go_on([one.so_far(key) for key, one in enumerate(going)], room)
            going = self._after(going, found, sampler)
        sampler.let_go()
        rows = iter(live)
        return [
            group.with_rollouts([next(rows).rollout(sampler.policy_version) for _ in range(size)])
            for group, size in zip(groups, sizes, strict=True)
        ]

    def live(self, group: RolloutGroup, *, number: int, environment: Any) -> LiveRollout:
        """Return a rollout of a group before its first turn."""
        tools = {**self.tools, **({} if environment is None else self._tools_of(environment))}
        return LiveRollout(
            prompt=group.prompt,
            number=number,
            images=self._shown(group.prompt, tools),
            tools=tools,
            writer=self.writers[self.environment_of(group.key, group.prompt.example)],
            environment=environment,
            in_steps=self.limits.kept_images is not None,
            turn_rewards=[] if tells_turns(environment) else None,
        )

    def environment_of(self, key: int, read: Example | None = None) -> str | None:
        """Return the name of the environment that a row chooses."""
        if self.environments is None or not self.environments.names:
            return None
        return self.environments.name_of(self.row_of(key, read), where=f"row {key + 1}")

    def _begun(
        self, groups: Sequence[RolloutGroup], sizes: Sequence[int]
    ) -> tuple[list[RolloutGroup], list[list[Any]]]:
        """The groups with the texts and images that ``reset`` returned, and the environment of each rollout."""
        if self.environments is None:
            return list(groups), [[None] * size for size in sizes]
        chosen = [self.environment_of(group.key, group.prompt.example) for group in groups]
        owned = self.environments.deal(chosen, sizes)
        self.shown = {}
        begun = []
        for group, own in zip(groups, owned, strict=True):
            where = group.prompt.example.source
            row = self.row_of(group.key, group.prompt.example)
            seen = self.environments.reset(own, row, where=where) if own else []
            self.shown[group.key] = pieces_digest(seen)
            begun.append(self.observed(group, seen) if seen else group)
        return begun, owned

    def observed(self, group: RolloutGroup, seen: Sequence[Piece]) -> RolloutGroup:
        """Return the group whose prompt ends with what its environment shows first."""
        if group.prompt.text is not None:
            raise UsageError(
                f"{group.prompt.example.source}: `reset` can show nothing after a prompt of plain text; write the "
                "prompt as messages, or let `reset` return nothing"
            )
        try:
            prompt = self.preparer(with_observation(group.prompt.example, seen))
        except DataError:
            self._check_shown(group, seen)
            raise
        return replace(group, prompt=prompt, observation=tuple(seen))

    def _check_shown(self, group: RolloutGroup, seen: Sequence[Piece]) -> None:
        """Name ``reset`` if an image that it returned cannot be used."""
        pictures = [piece for piece in seen if isinstance(piece, Image.Image)]
        for k, picture in enumerate(pictures):
            where = f"{group.prompt.example.source}: image {k + 1} of `reset`"
            self.preparer.picture(picture, where=where, alone=len(pictures) == 1)

    def dressed(self, example: Example, *, key: int, is_text: bool) -> Example:
        """Return the example of a row with the list of the tools that the model may call.

        Raises:
            UsageError: a prompt of plain text, in which nothing says where the list of tools belongs.
            DataError: the row chooses no environment.
        """
        if is_text:
            raise UsageError(f"{example.source}: tools need messages, got a prompt of plain text; write it as messages")
        return self.writers[self.environment_of(key, example)].dressed(example)

    def _tools_of(self, environment: Any) -> dict[str, Tool]:
        assert self.environments is not None
        return self.environments.tools(environment)

    def _shown(self, prompt: PreparedPrompt, tools: Mapping[str, Tool]) -> list[RolloutImage]:
        """The images of a prompt as tools get them; empty if no tool has a parameter for them."""
        if not prompt.image_sizes or all(tool.images_as is None for tool in tools.values()):
            return []
        pictures = self.preparer.loader.get(prompt.example)
        sources = prompt.example.images
        return [
            RolloutImage(picture=picture, model_size=size, name=source.name)
            for picture, size, source in zip(pictures, prompt.model_sizes, sources, strict=True)
        ]

    def _after(self, live: Sequence[LiveRollout], found: Sequence[Sampled], sampler: Sampler) -> list[LiveRollout]:
        """Add what was sampled, do its calls, and return the rollouts that are not finished."""
        asking = []
        for one, sampled in zip(live, found, strict=True):
            before = one.all_ids
            one.take(sampled, most=self.limits.completion_tokens, end_ids=sampler.end_ids)
            if one.turn_ids:
                one.calls = take_message(one, before, read=self.read, tokenizer=self._tokenizer)
            if one.calls and self.limits.calling_turns is not None and one.turn >= self.limits.calling_turns:
                one.note_calls(())
                one.finish = "turns"
            elif one.calls:
                asking.append(one)
        return [one for one, own in zip(asking, self.outcomes(asking), strict=True) if self._answered(one, own)]

    def outcomes(self, asking: Sequence[LiveRollout]) -> list[list[Outcome]]:
        """Do the calls of the last messages, and return what the model is told of those that were done."""
        outcomes = do_messages(
            [one.requests() for one in asking],
            is_over=[
                None if one.environment is None else partial(is_done, one.environment, where=one.where)
                for one in asking
            ],
            do=partial(do_calls, loop=tool_loop, timeout_seconds=self.limits.tool_seconds, say=self.say),
        )
        return [usable(own, self.preparer, where=one.where) for one, own in zip(asking, outcomes, strict=True)]

    def _answered(self, one: LiveRollout, outcomes: Sequence[Outcome]) -> bool:
        """Add the results of a turn to its rollout; return whether the rollout goes on."""
        one.note_calls(outcomes)
        for call, outcome in zip(one.calls, outcomes, strict=False):
            if outcome.failure is not None and call.unread is None:  # the log counts what a model writes wrongly
                self.say(outcome.failure)
        if one.turn_rewards is not None:
            asked = any(call.unread is None for call in one.calls)  # else it would tell that of an earlier turn again
            seconds = self.limits.tool_seconds
            one.turn_rewards.append(turn_reward_of(one.environment, where=one.where, seconds=seconds) if asked else 0.0)
        messages = [
            {"role": "tool", "name": outcome.name, "content": as_content(outcome.pieces)} for outcome in outcomes
        ]
        if is_done(one.environment, where=one.where):
            one.messages += messages
            one.finish = "done"
            return False
        results = [(outcome.name, list(outcome.pieces)) for outcome in outcomes]
        suffix = one.writer.suffix(results, before=one.results, where=one.where)
        history = self._history(one, results)
        length = len(one.ids) + len(suffix.ids) if history is None else len(history.ids)
        whole = len(one.prompt.ids) + length
        context = self.limits.context_tokens
        if length >= self.limits.completion_tokens or (context is not None and whole >= context):
            one.finish = "room"
            return False
        one.messages += messages
        pictures = pictures_of(outcomes)
        arrived = [
            self._arrived(one, owner, picture, number=number, span=span, alone=len(pictures) == 1)
            for (owner, number, picture), span in zip(pictures, suffix.spans, strict=True)
        ]
        one.go_on(suffix, results=results, arrived=arrived, history=history)
        check_features(one.arrived, num_rows=self.num_rows, source=one.prompt.example.source, turn=one.turn - 1)
        return True

    def _history(self, one: LiveRollout, results: Sequence[tuple[str, Sequence[Piece]]]) -> History | None:
        """The input of the turn after these results, if only the last images are kept."""
        if self.limits.kept_images is None:
            return None
        return bounded_history(
            one.said,
            [*one.results, results],
            kept=self.limits.kept_images,
            first_number=len(one.prompt.image_inputs),
            suffix_of=lambda shown: one.writer.suffix(shown, where=one.where),
        )

    def _arrived(
        self, one: LiveRollout, owner: str, picture: Image.Image, *, number: int, span: Any, alone: bool
    ) -> tuple[ArrivedImage, RolloutImage]:
        prepared = self.preparer.picture(picture, where=f"{one.where}, image {number} of `{owner}`", alone=alone)
        image = ArrivedImage(
            digest=prepared.digest,
            span=span,
            inputs=prepared.inputs,
            turn=one.turn,
            owner=owner,
            rollout=one.number,
            model_size=prepared.model_size,
        )
        return image, RolloutImage(picture=prepared.picture, model_size=prepared.model_size)
