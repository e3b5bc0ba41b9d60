"""The supervised warm-up that replaces pretraining: first words in place of pictures, then the pictures."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .batches import supervised_batch
from .behaviour import bare, careful, hasty
from .learning import move_shares, optimizers_of, scale_learning_rates, train_step
from .task import QUESTION_KINDS, Placement, QuestionKind, Sample, make_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupRecipe:
    """Contains all settings of the warm-up, other than the seed and the placement."""

    batch_size: int = 32
    text_accuracy: float = 0.97
    """The text stage ends when the running share of exactly right completions passes this in every kind."""
    max_text_steps: int = 240
    image_steps: int = 120
    hasty_share: float = 0.6
    """Share of image-stage completions that look at the first picture only."""
    bare_share: float = 0.1
    """Share of image-stage completions that answer without a thought and without tags."""
    muon_learning_rate: float = 0.006
    muon_momentum: float = 0.95
    adamw_learning_rate: float = 3e-3
    decay_share: float = 0.3
    """Last part of the image stage, over which both learning rates fall linearly to zero."""

    def __post_init__(self) -> None:
        """Refuse batches that would leave a kind out."""
        if self.batch_size < len(QUESTION_KINDS):
            raise ValueError(
                f"batch_size: expected at least {len(QUESTION_KINDS)}, one sample of each kind, got {self.batch_size}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupStep:
    """Contains what one step reports: its number from 1, and how well its batch was predicted."""

    step: int
    loss: float
    """Mean cross-entropy per completion token, in nats."""
    accuracy: float
    """Running share of completions whose every token was the most likely one, in the worst of the kinds."""


def text_stage(
    model: Any, *, processor: Any, seed: int, placement: Placement, recipe: WarmupRecipe
) -> Iterator[WarmupStep]:
    """Learn the format and how to find the answer, with colour words at the places of the pictures."""
    model.train()
    optimizers, shares = _optimizers(recipe, model), dict.fromkeys(QUESTION_KINDS, 0.0)
    for step in range(1, recipe.max_text_steps + 1):
        samples = _samples(step, seed=seed, split="warmup-text", batch_size=recipe.batch_size)
        batch = supervised_batch(
            samples,
            completions=[careful(sample) for sample in samples],
            processor=processor,
            placement=placement,
            words_for_pictures=True,
        )
        loss, right_B = train_step(model, batch, optimizers=optimizers)
        accuracy = _worst_kind(shares, samples=samples, right_B=right_B)
        yield WarmupStep(step=step, loss=loss, accuracy=accuracy)
        if accuracy > recipe.text_accuracy:
            return


def image_stage(
    model: Any, *, processor: Any, seed: int, placement: Placement, recipe: WarmupRecipe
) -> Iterator[WarmupStep]:
    """Learn to see, from completions most of which are hasty: what GRPO will have to unlearn."""
    model.train()
    optimizers, shares = _optimizers(recipe, model), dict.fromkeys(QUESTION_KINDS, 0.0)
    rng = random.Random(f"{seed}/warmup-behaviour")
    for step in range(1, recipe.image_steps + 1):
        decay_steps = max(1, round(recipe.decay_share * recipe.image_steps))
        scale_learning_rates(optimizers, scale=min(1.0, (recipe.image_steps - step + 1) / decay_steps))
        samples = _samples(step, seed=seed, split="warmup-image", batch_size=recipe.batch_size)
        completions = [_mixed(sample, rng=rng, recipe=recipe) for sample in samples]
        batch = supervised_batch(samples, completions=completions, processor=processor, placement=placement)
        loss, right_B = train_step(model, batch, optimizers=optimizers)
        accuracy = _worst_kind(shares, samples=samples, right_B=right_B)
        yield WarmupStep(step=step, loss=loss, accuracy=accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupStage:
    """Describes one stage of the warm-up: `run` trains the model in place and yields after every step."""

    name: str
    num_steps: Callable[[Any], int]
    """The most steps it may take."""
    run: Callable[..., Iterator[WarmupStep]]


STAGES = (
    WarmupStage(name="text", num_steps=lambda recipe: recipe.max_text_steps, run=text_stage),
    WarmupStage(name="image", num_steps=lambda recipe: recipe.image_steps, run=image_stage),
)


def _samples(step: int, *, seed: int, split: str, batch_size: int) -> list[Sample]:
    return [make_sample(step * batch_size + row, seed=seed, split=split) for row in range(batch_size)]


def _mixed(sample: Sample, *, rng: random.Random, recipe: WarmupRecipe) -> str:
    draw = rng.random()
    if draw < recipe.hasty_share:
        return hasty(sample)
    return bare(sample) if draw < recipe.hasty_share + recipe.bare_share else careful(sample)


def _optimizers(recipe: WarmupRecipe, model: Any) -> list[torch.optim.Optimizer]:
    return optimizers_of(
        model,
        muon_learning_rate=recipe.muon_learning_rate,
        muon_momentum=recipe.muon_momentum,
        adamw_learning_rate=recipe.adamw_learning_rate,
    )


def _worst_kind(shares: dict[QuestionKind, float], *, samples: Sequence[Sample], right_B: torch.Tensor) -> float:
    """Move each kind's running share by a tenth towards the batch's share; return the lowest."""
    move_shares(shares, kinds=[sample.kind for sample in samples], right_B=right_B)
    return min(shares.values())
