"""Seconds of a step and hours of a run, from counted operations and the numbers of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych_trainer.forecast.forecast import Forecast, PhaseForecast
from triptych_trainer.forecast.row_costs import RowCost

__all__ = ["Duration", "Hardware", "duration", "tokens_per_step"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """Describes one device: the numbers of its data sheet, and the share of them that a run reaches."""

    tflops: float
    memory_bandwidth: float
    """GB/s."""
    mfu: float
    assumed: bool
    """Whether some number is Triptych's assumption and not the user's."""
    measured: bool = False
    """True if ``tflops`` was measured: it is then taken as it is. A data sheet's value is taken in part."""

    def seconds(self, flops: float) -> float:
        """Return the seconds that a number of operations takes."""
        return flops / (self.tflops * 1e12 * self.mfu)


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """Contains the seconds of one optimizer step, by phase, and of the whole run."""

    generate_seconds: float
    score_seconds: float
    policy_seconds: float
    num_steps: int

    @property
    def step_seconds(self) -> float:
        """The seconds of all phases; rewards, decoding of images and the optimizer are not counted."""
        return self.generate_seconds + self.score_seconds + self.policy_seconds

    @property
    def hours(self) -> float:
        """The hours of the whole run."""
        return self.step_seconds * self.num_steps / 3600


def duration(forecast: Forecast, rows: Sequence[RowCost], hardware: Hardware, *, completion_tokens: float) -> Duration:
    """Estimate a run over ``rows``, whose completions have ``completion_tokens`` on average.

    Operations were counted for the heaviest rows; those of an average batch are fewer by the ratio of their tokens.
    """
    step, weights = forecast.step, forecast.static_memory.weights_bytes

    def seconds(name: str) -> float:
        phase = forecast.phase(name)
        if phase is None:
            return 0.0
        share = _share(phase, forecast, rows, completion_tokens=completion_tokens)
        return hardware.seconds(phase.flops * share)

    generate = seconds("generate")
    cache = forecast.phase("generate")
    if cache is not None:
        read = weights + cache.cache_bytes * _share(cache, forecast, rows, completion_tokens=completion_tokens)
        decoded = max(completion_tokens - step.arrived_tokens, 0.0)
        generate += decoded * read / (hardware.memory_bandwidth * 1e9)
    return Duration(
        generate_seconds=generate * step.generations_per_step,
        score_seconds=seconds("score") * step.scored_per_step,
        policy_seconds=seconds("policy") * step.micro_batches_per_step,
        num_steps=step.num_steps,
    )


def _share(phase: PhaseForecast, forecast: Forecast, rows: Sequence[RowCost], *, completion_tokens: float) -> float:
    """Tokens of an average batch over those of the heaviest one."""
    sizes = forecast.step.group_sizes if phase.name != "generate" else [forecast.step.num_generations] * len(phase.rows)
    completions = sum(sizes[: len(phase.rows)])
    heaviest = sum(row.num_tokens for row in phase.rows) + completions * forecast.step.completion_tokens
    mean = sum(row.num_tokens for row in rows) / len(rows)
    return (len(phase.rows) * mean + completions * completion_tokens) / heaviest


def tokens_per_step(forecast: Forecast, rows: Sequence[RowCost]) -> tuple[float, float, float]:
    """Return (images, prompt tokens, completion tokens at full length) of an average optimizer step, over all ranks."""
    prompts, step = forecast.step.prompts_per_step, forecast.step
    images = sum(len(row.images.sizes) for row in rows) / len(rows)
    tokens = sum(row.num_tokens for row in rows) / len(rows)
    return prompts * images, prompts * tokens, prompts * step.num_generations * step.completion_tokens
