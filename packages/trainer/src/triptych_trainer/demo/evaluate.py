"""Held-out accuracy of a model on the demo: plain batched generation, judged by the package's own rewards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from triptych_trainer.rewards import accuracy_reward, format_reward

from .batches import prompt_batch
from .task import Family, Placement, Sample, make_sample
from .tokenizer import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START

HELDOUT_SPLIT = "heldout"
MAX_NEW_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Shares between 0 and 1 over one completion per sample."""

    accuracy: float
    format: float
    accuracy_by_family: dict[Family, float]
    num_samples: int
    completions: tuple[str, ...]


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
    """Generate one completion per sample, greedily or sampled at temperature 1, and judge it.

    Sampling follows `seed` and leaves the global random state as it was; image tokens are never generated.
    """
    completions: list[str] = []
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(samples), batch_size):
            rows = samples[start : start + batch_size]
            ids_BT = generate(model, processor=processor, samples=rows, placement=placement, sampled=sampled)
            completions += processor.tokenizer.batch_decode(ids_BT, skip_special_tokens=True)
    model.train(was_training)
    return judge(samples, completions=completions)


@torch.no_grad()
def generate(
    model: Any, *, processor: Any, samples: Sequence[Sample], placement: Placement, sampled: bool
) -> torch.Tensor:
    """Return the ids of one completion per sample, padded on the right, generated as one batch."""
    batch = prompt_batch(samples, processor=processor, placement=placement)
    never = [processor.tokenizer.convert_tokens_to_ids(t) for t in (IMAGE_PAD, VIDEO_PAD, VISION_START, VISION_END)]
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    ids_BT = model.generate(
        **{name: tensor.to(model.device) for name, tensor in batch.items()},
        max_new_tokens=MAX_NEW_TOKENS,
        suppress_tokens=never,
        **choice,
    )
    completions_BT: torch.Tensor = ids_BT[:, batch["input_ids"].shape[1] :]
    return completions_BT


def judge(samples: Sequence[Sample], *, completions: Sequence[str]) -> Evaluation:
    """Score completions with the rewards `accuracy` and `format`."""
    right = accuracy_reward()(list(completions), answer=[sample.answer for sample in samples])
    in_format = format_reward()(list(completions))
    by_family: dict[Family, list[float]] = {}
    for sample, score in zip(samples, right, strict=True):
        by_family.setdefault(sample.family, []).append(score)
    return Evaluation(
        accuracy=sum(right) / len(samples),
        format=sum(in_format) / len(samples),
        accuracy_by_family={family: sum(scores) / len(scores) for family, scores in sorted(by_family.items())},
        num_samples=len(samples),
        completions=tuple(completions),
    )
