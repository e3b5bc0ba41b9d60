"""A rollout that is not finished yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from triptych_trainer.models.image_processor import image_digest
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.kept import drawn_from_all, one_after_the_other
from triptych_trainer.rollouts.rollout import (
    ArrivedImage,
    Finish,
    ForRewards,
    Rollout,
    RolloutGroup,
    Tail,
    ToolCall,
    image_names,
)
from triptych_trainer.rollouts.sampled import Sampled
from triptych_trainer.trajectories.calls import Call, CallRequest, Outcome
from triptych_trainer.trajectories.history import History, moved
from triptych_trainer.trajectories.images import RolloutImage, RolloutImages
from triptych_trainer.trajectories.results import Piece
from triptych_trainer.trajectories.toolbox import Tool
from triptych_trainer.trajectories.writer import Suffix, TurnWriter

__all__ = ["LiveRollout"]


@dataclass(kw_only=True, slots=True)
class LiveRollout:
    """Contains the messages of a rollout until now, and everything that its next turn needs."""

    prompt: PreparedPrompt
    number: int
    """The number of the rollout among those of its prompt, from 0."""
    images: list[RolloutImage]
    """The images that tools can get: those of the prompt, then those that arrived."""
    tools: Mapping[str, Tool]
    writer: TurnWriter
    """The writer that turns the results of calls into tokens."""
    environment: Any = None
    ids: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    short_ids: list[int] = field(default_factory=list)
    """The same tokens as `ids`, with one placeholder per image."""
    logps: list[float] | None = field(default_factory=list)
    """Of each token, as the engine returned it, and 0 for those of the environment; None where it returned nothing."""
    kept: torch.Tensor = field(default_factory=lambda: drawn_from_all(0))
    """The table of the tokens that each token was drawn from."""
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    arrived: list[ArrivedImage] = field(default_factory=list)
    results: list[Sequence[tuple[str, Sequence[Piece]]]] = field(default_factory=list)
    """What the calls of each turn so far returned."""
    calls: list[Call] = field(default_factory=list)
    """The calls of the last message."""
    said: list[Sequence[int]] = field(default_factory=list)
    """The token ids of each message of the model."""
    in_steps: bool = False
    """Whether each turn is a sample of its own."""
    history: History | None = None
    """The input of the next turn, if that is not the whole history."""
    steps: list[Rollout] = field(default_factory=list)
    """The turns so far as samples of their own."""
    finish: Finish = "length"
    asked: list[ToolCall] = field(default_factory=list)
    """The calls of all messages so far."""
    unread: dict[int, str] = field(default_factory=dict)
    """For each turn, from 0, with a call that cannot be read: the reason."""
    turn_rewards: list[float] | None = None
    """The reward of each turn whose calls were done; None if the environment gives no rewards for turns."""

    @property
    def turn(self) -> int:
        """The number of the last message, from 0."""
        return len(self.results)

    @property
    def turn_ids(self) -> Sequence[int]:
        """The tokens of the last message."""
        return self.said[-1] if self.said else ()

    @property
    def behind(self) -> tuple[Sequence[int], Sequence[ArrivedImage]]:
        """The tokens after the prompt from which the next turn is sampled, and the images at their places in them."""
        if self.history is None:
            return self.ids, self.arrived
        spans = zip(self.history.numbers, self.history.spans, strict=True)
        return self.history.ids, [replace(self.arrived[number], span=span) for number, span in spans]

    @property
    def all_ids(self) -> list[int]:
        """The tokens of the prompt and those after it, from which the next turn is sampled."""
        return [*self.prompt.ids, *self.behind[0]]

    @property
    def where(self) -> str:
        """The sample, the rollout and the turn, for errors and logs."""
        example = self.prompt.example
        return f"{example.source}: example {example.id}, rollout {self.number + 1}, turn {self.turn + 1}"

    def take(self, sampled: Sampled, *, most: int, end_ids: Collection[int]) -> None:
        """Add the sampled tokens to the rollout, up to ``most`` tokens."""
        before, images = self.behind
        own = tuple(sampled.ids)[: most - len(before)]
        kept = drawn_from_all(len(own)) if sampled.kept is None else sampled.kept[: len(own)]
        self.finish = "stop" if own and own[-1] in end_ids else "length"
        if self.in_steps and own:
            self.steps.append(
                Rollout(
                    ids=(*before, *own),
                    trained=(False,) * len(before) + (True,) * len(own),
                    messages=(),
                    finish=self.finish,
                    sampling_logps=None if sampled.logps is None else (0.0,) * len(before) + _first(sampled, len(own)),
                    kept=_if_any(one_after_the_other(drawn_from_all(len(before)), kept)),
                    images=tuple(images),
                    trajectory=self.number,
                )
            )
        self.said.append(own)
        self.logps = None if self.logps is None or sampled.logps is None else [*self.logps, *_first(sampled, len(own))]
        self.kept = one_after_the_other(self.kept, kept)
        self.ids += own
        self.short_ids += own
        self.trained += [True] * len(own)
        self.calls = []

    def requests(self) -> list[CallRequest]:
        """Return the calls of the last message, with what is needed to do them."""
        count = len(self.arrived)
        return [
            CallRequest(
                call=call,
                tools=self.tools,
                images=RolloutImages(self.images, num_arrived=count + k),
                where=self.where,
            )
            for k, call in enumerate(self.calls)
        ]

    def note_calls(self, outcomes: Sequence[Outcome]) -> None:
        """Remember the calls of the last message and the outcomes of those that were done, which come first."""
        for k, call in enumerate(self.calls):
            tool = self.tools.get(call.name)
            self.asked.append(
                ToolCall(
                    turn=self.turn,
                    name=call.name,
                    arguments=call.arguments,
                    was_done=k < len(outcomes),
                    failed=k < len(outcomes) and outcomes[k].failure is not None,
                    box_frame=None if tool is None else tool.box_frame,
                )
            )

    def go_on(
        self,
        suffix: Suffix,
        *,
        results: Sequence[tuple[str, Sequence[Piece]]],
        arrived: Sequence[tuple[ArrivedImage, RolloutImage]],
        history: History | None = None,
    ) -> None:
        """Add the results of the last message's calls to the rollout."""
        first, count = len(self.ids), len(self.arrived)
        for k, (image, shown) in enumerate(arrived):
            self.arrived.append(replace(image, span=moved(image.span, by=first, image=count + k)))
            self.images.append(shown)
        self.ids += suffix.ids
        self.short_ids += suffix.short_ids
        self.trained += [False] * len(suffix.ids)
        self.logps = None if self.logps is None else [*self.logps, *[0.0] * len(suffix.ids)]
        self.kept = one_after_the_other(self.kept, drawn_from_all(len(suffix.ids)))
        self.results.append(results)
        self.history = history

    def so_far(self, key: int) -> RolloutGroup:
        """Return the rollout as a prompt from which sampling continues."""
        prompt, first, own = self.prompt, len(self.prompt.ids), len(self.prompt.image_inputs)
        _, arrived = self.behind
        spans = [moved(image.span, by=first, image=own + k) for k, image in enumerate(arrived)]
        digests = prompt.image_digests or tuple(map(image_digest, prompt.image_inputs))
        longer = replace(
            prompt,
            ids=self.all_ids,
            spans=(*prompt.spans, *spans),
            image_inputs=(*prompt.image_inputs, *(image.inputs for image in arrived)),
            image_digests=(*digests, *(image.digest for image in arrived)),
        )
        source = prompt.example.source
        own_names = [f"{source}: image marker {k + 1}" for k in range(len(prompt.spans))]
        last = image_names(self.arrived)[len(self.arrived) - len(arrived) :]
        names = [*own_names, *(f"{source}: {name}" for name in last)]
        return RolloutGroup(key=key, prompt=longer, span_names=tuple(names), tail=self._tail())

    def _tail(self) -> Tail:
        """What comes after the prompt, for an engine that reads images itself."""
        shown = self.images[len(self.images) - len(self.arrived) :]
        history = self.history
        numbers = range(len(self.arrived)) if history is None else history.numbers
        return Tail(
            prompt=self.prompt,
            short_ids=tuple(self.short_ids if history is None else history.short_ids),
            pictures=tuple((shown[number].picture, shown[number].model_size) for number in numbers),
        )

    def rollout(self, policy_version: int) -> Rollout:
        """Return the finished rollout."""
        return Rollout(
            ids=tuple(self.ids),
            trained=tuple(self.trained),
            messages=tuple(self.messages),
            finish=self.finish,
            sampling_logps=None if self.logps is None else tuple(self.logps),
            kept=_if_any(self.kept),
            images=tuple(self.arrived),
            policy_version=policy_version,
            calls=tuple(self.asked),
            unread=dict(self.unread),
            turn_rewards=self._rewards_of_messages(),
            steps=tuple(replace(step, policy_version=policy_version) for step in self.steps),
            for_rewards=ForRewards(environment=self.environment),
        )

    def _rewards_of_messages(self) -> tuple[float, ...] | None:
        """One reward for each message of the model; 0 for a last message without calls."""
        if self.turn_rewards is None:
            return None
        count = sum(message.get("role") == "assistant" for message in self.messages)
        return (*self.turn_rewards, *[0.0] * (count - len(self.turn_rewards)))


def _first(sampled: Sampled, count: int) -> tuple[float, ...]:
    """The log-probabilities of the first ``count`` tokens."""
    return tuple(sampled.logps or ())[:count]


def _if_any(kept: torch.Tensor) -> torch.Tensor | None:
    """None for a table whose tokens were all drawn from all tokens."""
    return kept if kept.shape[1] else None
