"""From rows, a configuration and a skeleton to bytes per phase, the peak, and the rows that set it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trl import GRPOConfig

from triptych_trainer.forecast.phases import PHASES, TOWER_BACKWARD, Phase, Traced, trace
from triptych_trainer.forecast.row_costs import RowCost, RowCounter, group_batch, heaviest
from triptych_trainer.forecast.skeleton import Skeleton, build_skeleton
from triptych_trainer.forecast.static_memory import StaticMemory, static_memory_of
from triptych_trainer.forecast.step import StepShape, step_shape
from triptych_trainer.forecast.traced_passes import Device, Setting
from triptych_trainer.forecast.turns import PlannedTurns
from triptych_trainer.models.families import family_of
from triptych_trainer.options.arguments import RunConfig
from triptych_trainer.options.plan_options import Sharding

__all__ = ["Forecast", "PhaseForecast", "Subject", "forecast", "phase_forecast", "update_forecast"]

UPDATE = "update"


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseForecast:
    """Contains the bytes of one phase on one rank, when it needs most."""

    name: str
    activations_bytes: int
    """Everything the phase allocates for itself, except the key-value cache."""
    cache_bytes: int
    features_bytes: int
    """Image features kept from generation."""
    gradients_bytes: int
    static_bytes: int
    rows: tuple[RowCost, ...]
    flops: float
    pixels_bytes: int
    """The images' inputs: always in the host's memory, and on an accelerator a part of the activations."""
    allocated_bytes: int
    """The phase's own peak with all gradients there before it, as a measurement of one pass sees it."""

    @property
    def total_bytes(self) -> int:
        """The sum of all parts, in bytes."""
        own = self.activations_bytes + self.cache_bytes + self.features_bytes
        return own + self.gradients_bytes + self.static_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Says what a run will need, by the phase."""

    device: Device
    static_memory: StaticMemory
    step: StepShape
    phases: tuple[PhaseForecast, ...]

    @property
    def peak(self) -> PhaseForecast:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total_bytes)

    @property
    def allocated_bytes(self) -> int:
        """The most that is allocated in addition to weights, gradients and optimizer state."""
        own = ((p.total_bytes - p.gradients_bytes - p.static_bytes) for p in self.phases)
        return max(own)

    @property
    def rise_bytes(self) -> int:
        """The most that a later step needs beyond what is in memory between two steps."""
        return max(phase.total_bytes - phase.static_bytes for phase in self.phases)

    def phase(self, name: str) -> PhaseForecast | None:
        """Return one phase, or None if the run does not have it."""
        return next((phase for phase in self.phases if phase.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Contains the subject of a forecast: a command line, the device that it will run on, and the token counts of its
    data.
    """

    config: RunConfig
    model_config: Any
    counter: RowCounter
    rows: Sequence[RowCost]
    device: Device
    num_ranks: int = 1
    sharding: Sharding = "none"
    turns: PlannedTurns | None = None
    """What arrives in every rollout; None for a run without tools."""

    def shape(self) -> StepShape:
        """Return the step's arithmetic."""
        found = step_shape(
            self.config.grpo,
            num_rows=len(self.rows),
            num_ranks=self.num_ranks,
            sized_for_ranks="generation_batch_size" in self.config.options,
        )
        if self.turns is None:
            return found
        arrived = len(self.turns.images) * self.turns.count
        return replace(found, arrived_tokens=self.turns.num_tokens, arrived_images=arrived)


def forecast(subject: Subject, *, skeleton: Skeleton | None = None, phases: Sequence[Phase] = PHASES) -> Forecast:
    """Forecast a run whose batches contain its heaviest rows together and whose completions reach their full length."""
    config, step = subject.config, subject.shape()
    skeleton = skeleton or build_skeleton(config, model_config=subject.model_config)
    states = static_memory_of(skeleton, config, num_ranks=subject.num_ranks, sharding=subject.sharding)
    setting = Setting.of(
        config,
        device=subject.device,
        keeps_features=subject.sharding != "full",
        trains_once=_trains_once(config, step) and subject.sharding == "none",
    )
    wanted = [phase for phase in phases if _happens(phase, config.grpo, step)]
    traced: dict[Phase, tuple[Traced, tuple[RowCost, ...]]] = {}
    for phase in wanted:
        sizes = [step.num_generations] * step.prompts_per_generation if phase == "generate" else step.group_sizes
        rows = heaviest(subject.rows, len(sizes))
        batch = group_batch(
            rows,
            counter=subject.counter,
            family=family_of(skeleton.base),
            group_sizes=sizes[: len(rows)],
            completion_tokens=step.completion_tokens,
            turns=subject.turns,
        )
        traced[phase] = trace(skeleton, batch, phase=phase, setting=setting), tuple(rows)
    copies = 2 if states.reference_bytes else 1  # a reference model of its own keeps features of its own
    features = int(copies * traced["generate"][0].features_bytes) if "generate" in traced else 0
    graph = int(traced["generate"][0].graph_bytes) if "generate" in traced else 0
    before = {"generate": 0, "score": features + graph, "policy": features}
    found = [
        phase_forecast(phase, *traced[phase], states=states, step=step, features=before[phase]) for phase in wanted
    ]
    found.append(update_forecast(states, features=features))
    return Forecast(device=subject.device, static_memory=states, step=step, phases=tuple(found))


def _trains_once(config: RunConfig, step: StepShape) -> bool:
    """Whether one policy pass follows a generation of the same model, in one process."""
    once = step.generations_per_step == step.micro_batches_per_step and step.num_ranks == 1
    return once and not config.grpo.use_vllm and config.run.completions_per_slice is None


def _happens(phase: Phase, args: GRPOConfig, step: StepShape) -> bool:
    if phase == "generate":
        return not args.use_vllm
    return phase == "policy" or step.scored_per_step > 0


def phase_forecast(
    phase: Phase, traced: Traced, rows: tuple[RowCost, ...], *, states: StaticMemory, step: StepShape, features: int
) -> PhaseForecast:
    """Return the forecast of a phase on one rank."""
    own, gradients = traced.peak, 0
    if phase == "policy":
        own, gradients = _with_gradients(traced, states, accumulates=step.micro_batches_per_step > 1)
    elif step.has_gradients_while_generating:
        gradients = states.gradients_bytes
    return PhaseForecast(
        name=phase,
        activations_bytes=int(own - traced.cache_bytes) if own > traced.cache_bytes else int(own),
        cache_bytes=int(traced.cache_bytes) if own > traced.cache_bytes else 0,
        features_bytes=features,
        gradients_bytes=gradients,
        static_bytes=states.static_bytes,
        rows=rows,
        flops=traced.flops,
        pixels_bytes=traced.pixels_bytes,
        allocated_bytes=int(traced.peak),
    )


def _with_gradients(traced: Traced, states: StaticMemory, *, accumulates: bool) -> tuple[float, int]:
    """(own bytes, gradients) at the worst moment of the policy pass.

    After the first micro-batch all gradients are there. In a step of one micro-batch they appear while activations go:
    the worst is the beginning of the backward pass, or its end.
    """
    if accumulates:
        return traced.peak, states.gradients_bytes
    end = max(traced.peaks.get(TOWER_BACKWARD, 0.0), traced.last_layer_bytes)
    if end + states.gradients_bytes > traced.peak:
        return end, states.gradients_bytes
    return traced.peak, 0


def update_forecast(states: StaticMemory, *, features: int) -> PhaseForecast:
    """Return the forecast of the optimizer's step."""
    return PhaseForecast(
        name=UPDATE,
        activations_bytes=states.update_bytes,
        cache_bytes=0,
        features_bytes=features,
        gradients_bytes=states.gradients_bytes,
        static_bytes=states.static_bytes,
        rows=(),
        flops=0.0,
        pixels_bytes=0,
        allocated_bytes=states.update_bytes,
    )
