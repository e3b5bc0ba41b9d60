"""Held-out accuracy of a model on the demo: rollouts as in training, scored by the package's own rewards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.sampler import end_ids_of, model_sampler, one_message
from triptych_trainer.grpo.step import Sampler, rollout
from triptych_trainer.rewards import accuracy_reward, completion_text, format_reward
from triptych_trainer.rollouts.rollout import RolloutGroup

from .batches import prepared_prompts
from .task import Placement, Sample, make_sample

HELDOUT_SPLIT = "heldout"
MAX_NEW_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Shares between 0 and 1 over one completion per sample."""

    accuracy: float
    format: float
    accuracy_by_kind: dict[Any, float]
    num_samples: int
    completions: tuple[str, ...]
    calls_by_kind: dict[str, float] | None = None
    """Mean calls of tools in a rollout; None for a demo without tools."""


def heldout_samples(num_samples: int, *, seed: int) -> list[Sample]:
    """Return held-out samples; warm-up and training draw from other splits."""
    return [make_sample(index, seed=seed, split=HELDOUT_SPLIT) for index in range(num_samples)]


def evaluate(
    model: Any,
    *,
    processor: Any,
    samples: Sequence[Sample],
    placement: Placement = "in_place",
    sampled: bool = False,
    seed: int = 0,
    batch_size: int = 128,
) -> Evaluation:
    """Roll out one completion per sample, greedily or sampled at temperature 1, and measure it.

    Sampling follows `seed` and leaves the global random state as it was; image tokens are never generated.
    """
    completions: list[str] = []
    with evaluating(model, seed=seed):
        for start in range(0, len(samples), batch_size):
            rows = samples[start : start + batch_size]
            groups = roll_out(model, processor=processor, samples=rows, placement=placement, sampled=sampled)
            completions += [completion_text(list(group.rollouts[0].messages)) for group in groups]
    return measure(samples, completions=completions)


@contextmanager
def evaluating(model: Any, *, seed: int) -> Iterator[None]:
    """Put the model into evaluation mode and draw from `seed`; restore the mode and the global random state."""
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
    model.train(was_training)


def roll_out(
    model: Any, *, processor: Any, samples: Sequence[Sample], placement: Placement, sampled: bool
) -> list[RolloutGroup]:
    """Return one rollout per sample, generated as one batch."""
    sampler = evaluation_sampler(model, processor=processor, sampled=sampled, max_new_tokens=MAX_NEW_TOKENS)
    prompts = prepared_prompts(samples, processor=processor, placement=placement)
    return rollout(sampler, prompts, num_generations=1)


def evaluation_sampler(model: Any, *, processor: Any, sampled: bool, max_new_tokens: int) -> Sampler:
    """Return the trainer's own sampler, greedy or at temperature 1."""
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
        **choice,
    )
    return model_sampler(
        GroupEngine(),
        model,
        generation_config=config,
        read=one_message(processor.tokenizer),
        end_ids=end_ids_of(config),
    )


def measure(samples: Sequence[Sample], *, completions: Sequence[str]) -> Evaluation:
    """Score completions with the rewards `accuracy` and `format`."""
    right = accuracy_reward()(list(completions), answer=[sample.answer for sample in samples])
    in_format = format_reward()(list(completions))
    return Evaluation(
        accuracy=sum(right) / len(samples),
        format=sum(in_format) / len(samples),
        accuracy_by_kind=mean_by_kind([sample.kind for sample in samples], right),
        num_samples=len(samples),
        completions=tuple(completions),
    )


def mean_by_kind(kinds: Sequence[str], scores: Sequence[float]) -> dict[Any, float]:
    """Return the mean score of every kind that occurs, in the order of their names."""
    by_kind: dict[str, list[float]] = {}
    for kind, score in zip(kinds, scores, strict=True):
        by_kind.setdefault(kind, []).append(score)
    return {kind: sum(found) / len(found) for kind, found in sorted(by_kind.items())}
