"""Rollouts that no model sampled: texts and scores made up for reports, evaluations and the step."""

from collections.abc import Mapping, Sequence

from triptych_data import Example
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup, ScoredGroup

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


def scored(
    prompt: PreparedPrompt,
    texts: Sequence[str],
    *,
    rewards: Mapping[str, Sequence[float | None]],
    advantages: Sequence[float | None] | None = None,
    key: int = 0,
) -> ScoredGroup:
    """A group with its scores; without advantages one of an evaluation."""
    return ScoredGroup(
        group=RolloutGroup(key=key, prompt=prompt, rollouts=tuple(said(text) for text in texts)),
        rewards={name: tuple(scores) for name, scores in rewards.items()},
        advantages=tuple(advantages) if advantages is not None else (None,) * len(texts),
    )
