"""Rollouts that no model sampled: texts and scores made up for reports, evaluations and the step."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from triptych_data import Example
from triptych_parser import ImageSpan
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import ArrivedImage, Rollout, RolloutGroup, ScoredGroup, ToolCall

Size = tuple[int, int]


def prepared(example: Example, *, model_size: Size = (56, 56), decoded: Size = (56, 56)) -> PreparedPrompt:
    """A prompt of five tokens whose images all have the same sizes, (height, width) in pixels."""
    count = len(example.images)
    return PreparedPrompt(
        example=example,
        ids=[1, 2, 3, 4, 5],
        spans=(),
        image_inputs=(),
        image_sizes=(decoded,) * count,
        model_sizes=(model_size,) * count,
    )


def said(text: str, *, num_tokens: int | None = None, first: int = 20) -> Rollout:
    """A finished rollout of one turn; by default one token for each word."""
    count = len(text.split()) if num_tokens is None else num_tokens
    return Rollout(
        ids=tuple(range(first, first + count)),
        trained=(True,) * count,
        messages=({"role": "assistant", "content": text},),
        finish="stop",
    )


def played(*turns: Mapping[str, Any], finish: str = "stop", turn_rewards: Sequence[float] | None = None) -> Rollout:
    """A rollout of several turns, three tokens for a message and four for its results.

    A turn has what was `said`, its `calls`, and for each call what it `returned`: texts and pictures.
    """
    ids, trained, messages, arrived, calls = [], [], [], [], []
    for number, turn in enumerate(turns):
        ids += [7, 8, 9]
        trained += [True] * 3
        messages.append({"role": "assistant", "content": turn["said"]})
        calls += [ToolCall(turn=number, **call) for call in turn.get("calls", ())]
        names = [call["name"] for call in turn.get("calls", ())]
        for name, pieces in zip(names, turn.get("returned", ()), strict=False):
            messages.append({"role": "tool", "name": name, "content": [_part(piece) for piece in pieces]})
            for picture in [piece for piece in pieces if not isinstance(piece, str)]:
                if finish == "done" and number == len(turns) - 1:
                    continue
                span = ImageSpan(start=len(ids), length=2, image=len(arrived), runs=((len(ids), 2),))
                size = (picture.height, picture.width)
                arrived.append(ArrivedImage(digest="", span=span, inputs={}, turn=number, owner=name, model_size=size))
        if number < len(turns) - 1:
            ids += [1] * 4
            trained += [False] * 4
    return Rollout(
        ids=tuple(ids),
        trained=tuple(trained),
        messages=tuple(messages),
        finish=finish,
        images=tuple(arrived),
        calls=tuple(calls),
        turn_rewards=None if turn_rewards is None else tuple(turn_rewards),
    )


def _part(piece: str | Image.Image) -> dict[str, Any]:
    return {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image", "image": piece}


def scored(
    prompt: PreparedPrompt,
    texts: Sequence[str | Rollout],
    *,
    rewards: Mapping[str, Sequence[float | None]],
    advantages: Sequence[float | None] | None = None,
    key: int = 0,
) -> ScoredGroup:
    """A group with its scores; without advantages one of an evaluation."""
    rollouts = tuple(said(text) if isinstance(text, str) else text for text in texts)
    return ScoredGroup(
        group=RolloutGroup(key=key, prompt=prompt, rollouts=rollouts),
        rewards={name: tuple(scores) for name, scores in rewards.items()},
        advantages=tuple(advantages) if advantages is not None else (None,) * len(texts),
    )
