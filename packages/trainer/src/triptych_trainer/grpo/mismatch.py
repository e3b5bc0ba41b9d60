"""The difference between the engine that samples and the model that is trained, by the number of images in the prompt.

For every token that the loss counts, with r the trainer's probability of it divided by the engine's,

    k3 = r - log r - 1        (Schulman, "Approximating KL divergence", 2020)

which is 0 where both agree and never negative; its mean over sampled tokens estimates KL(engine || trainer). Below
0.015 is what other trainers ask of an engine before they trust it. The number of images shows where to look: an engine
that is wrong about images only is right about the prompts that have none.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from triptych_trainer.grpo.batch import TrainingBatch, loss_mask
from triptych_trainer.grpo.step import sampling_logps

__all__ = ["WARN", "Mismatch", "likely_causes", "measured", "merged", "metrics"]

WARN = 0.015
"""The mean from which a run warns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """Contains the k3 estimates of some tokens: their number, sum and largest."""

    num_tokens: int = 0
    total: float = 0.0
    largest: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over the tokens; 0 without any."""
        return self.total / self.num_tokens if self.num_tokens else 0.0

    def __add__(self, other: "Mismatch") -> "Mismatch":
        """The estimates of the tokens of both."""
        return Mismatch(
            num_tokens=self.num_tokens + other.num_tokens,
            total=self.total + other.total,
            largest=max(self.largest, other.largest),
        )


def measured(batch: TrainingBatch) -> dict[int, Mismatch]:
    """Compare the two log-probabilities of every counted token, by the number of images before its turn.

    Tokens whose log-probability the engine did not return are left out.
    """
    old_BC = batch.old_logps_BC
    assert old_BC is not None, "the mismatch compares with the log-probabilities of the trainer's own model"
    mask_BC = loss_mask(batch.rollouts, width=batch.width, device=old_BC.device)
    log_ratio_BC = (old_BC - sampling_logps(batch, device=old_BC.device)).double()
    counted_BC = mask_BC & ~log_ratio_BC.isnan()
    k3_BC = torch.expm1(log_ratio_BC) - log_ratio_BC
    found: dict[int, Mismatch] = defaultdict(Mismatch)
    owners = [group.prompt for group in batch.groups for _ in group.rollouts]
    for row, (prompt, one) in enumerate(zip(owners, batch.rollouts, strict=True)):
        for start, stop in one.sampled_runs:
            number = len(prompt.spans) + sum(image.span.start < start for image in one.images)
            values = k3_BC[row, start:stop][counted_BC[row, start:stop]]
            if len(values):
                found[number] += Mismatch(
                    num_tokens=len(values), total=float(values.sum()), largest=float(values.max())
                )
    return dict(found)


def merged(
    found: Mapping[int, Mismatch], *, gather_object: Callable[[list[Any]], list[Any]] = list
) -> dict[int, Mismatch]:
    """Join the estimates of all ranks, in the order of the number of images."""
    total: dict[int, Mismatch] = defaultdict(Mismatch)
    for number, one in gather_object(list(found.items())):
        total[number] += one
    return dict(sorted(total.items()))


def metrics(found: Mapping[int, Mismatch]) -> dict[str, float]:
    """Return the numbers under the names in which they are logged."""
    everything = sum(found.values(), Mismatch())
    with_images = sum((one for number, one in found.items() if number), Mismatch())
    named = {f"images_{number}": one.mean for number, one in found.items()}
    if with_images.num_tokens and found.get(0, Mismatch()).num_tokens:
        named |= {"with_images": with_images.mean, "without_images": found[0].mean}
    return {
        "sampling/mismatch_kl": everything.mean,
        "sampling/mismatch_kl/max": everything.largest,
        **{f"sampling/mismatch_kl/{name}": value for name, value in named.items()},
    }


def likely_causes(
    found: Mapping[int, Mismatch],
    *,
    tower_trains: bool,
    adapter_dropout: float,
    other_probabilities: Sequence[str],
    lag: int = 0,
) -> list[str]:
    """Return the possible causes of a difference, the likeliest first.

    Args:
        tower_trains: whether the vision tower is trained.
        adapter_dropout: probability with which adapters drop inputs while the trainer scores.
        other_probabilities: options that let the engine sample from other probabilities than the trainer scores.
        lag: how many generations a server samples ahead of the training.
    """
    without = found.get(0, Mismatch())
    others = sum((one for number, one in found.items() if number), Mismatch())
    about_images = others.num_tokens and without.num_tokens and others.mean > 10 * max(without.mean, 1e-6)
    causes = []
    if about_images:
        causes.append(
            "prompts without images agree, so the engine sees other images: compare the pixel limits of both"
            + (", and see that the engine forgets its image features when the weights change" if tower_trains else "")
        )
    if lag and not about_images:
        causes.append(f"--rollout_lag {lag}: the policy has changed since it sampled, by more than the bound")
    if other_probabilities:
        causes.append(
            f"{', '.join(other_probabilities)} let the engine sample from other probabilities than are scored"
        )
    if adapter_dropout > 0:
        causes.append(f"--lora_dropout {adapter_dropout:g} is active while the trainer scores, and not in the engine")
    if not about_images:
        causes.append("the engine computes in another precision (--dtype of both), or serves another revision")
    if others.num_tokens and not without.num_tokens:
        causes.append(
            "no prompt is without images, so the engine may see other images: compare the pixel limits of both"
            + (", and see that the engine forgets its image features when the weights change" if tower_trains else "")
        )
    return causes
