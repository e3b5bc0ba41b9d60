"""A run's own forecast: one line before the first step, one line and an entry of the run record when it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from triptych_data import Example
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.forecast.apart import ApartError, computed_apart
from triptych_trainer.forecast.checkpointing import BothForecasts, both_forecasts
from triptych_trainer.forecast.forecast import Forecast, Subject, forecast
from triptych_trainer.forecast.peak_memory import PeakMemory
from triptych_trainer.forecast.room import room_of
from triptych_trainer.forecast.row_costs import RowCounter
from triptych_trainer.forecast.show import PHASE_NAMES, size
from triptych_trainer.forecast.static_memory import sharding_of
from triptych_trainer.forecast.traced_passes import Device
from triptych_trainer.monitor.run_record import add_to_record
from triptych_trainer.options.arguments import RunConfig, prompt_settings

__all__ = ["MemoryWatch", "RunForecast", "forecast_run"]

_LOOKED_AT = 256
"""Rows counted at the start of a run, spread evenly; `triptych plan` counts all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunForecast:
    """Contains the forecast of a run as it will be, and what it chose."""

    found: Forecast
    checkpointing: bool
    choice: Mapping[str, int | bool | None] = field(default_factory=dict)
    """What the run's record says of the choice; empty where the command line made it."""


def forecast_run(
    model: torch.nn.Module,
    processor: Any,
    *,
    examples: Sequence[Example],
    config: RunConfig,
    say: Callable[[str], None],
    seen: SeenHeaders | None = None,
) -> RunForecast | None:
    """Forecast a run that is about to begin and print one line; return None, and print why, if that is impossible.

    With ``--gradient_checkpointing auto`` the forecast also chooses, and a second line says so. A separate process
    computes it, so that neither a function nor a random number of this one changes. Headers that are ``seen`` are not
    read again.
    """
    every = -(-len(examples) // _LOOKED_AT)
    looked_at = [examples[index] for index in range(0, len(examples), every)]
    device = next(model.parameters()).device.type
    on_accelerator = device != "cpu" or (torch.accelerator.is_available() and not config.grpo.use_cpu)
    work = partial(
        _forecast, looked_at, processor, config, model.config, device="cuda" if on_accelerator else "cpu", seen=seen
    )
    try:
        found = computed_apart(work)
    except ApartError as error:
        say(f"memory: no forecast ({error})")
        return None
    checkpointing, choice = config.grpo.gradient_checkpointing, {}
    if isinstance(found, Forecast):
        chosen = found
    else:
        room = room_of(
            config.grpo,
            stated_gib=config.run.memory_gib,
            on_accelerator=on_accelerator,
            resident_bytes=found.saved.static_memory.weights_bytes,
        )
        chosen, checkpointing, choice = found.chosen(room), found.needs_checkpointing(room), found.entry(room)
        say(found.sentence(room))
    _say_forecast(chosen, looked_at=len(looked_at), num_rows=len(examples), say=say)
    return RunForecast(found=chosen, checkpointing=checkpointing, choice=choice)


def _say_forecast(found: Forecast, *, looked_at: int, num_rows: int, say: Callable[[str], None]) -> None:
    peak = found.peak
    part = f", of {looked_at} rows looked at" if looked_at < num_rows else ""
    row = f", set by {peak.rows[0].place}{part}" if peak.rows else ""
    say(f"memory: forecast at most {size(peak.total_bytes)} in {PHASE_NAMES[peak.name]}{row}")


def _forecast(
    examples: Sequence[Example],
    processor: Any,
    config: RunConfig,
    model_config: Any,
    *,
    device: Device,
    seen: SeenHeaders | None,
) -> Forecast | BothForecasts:
    """What the child process computes: for the time of a trace it replaces functions of torch and of the model."""
    counter = RowCounter(processor, prompt_settings(config), seen=seen)
    subject = Subject(
        config=config,
        model_config=model_config,
        counter=counter,
        rows=counter.count(examples),
        device=device,
        num_ranks=config.grpo.world_size,
        sharding=sharding_of(config.grpo),
    )
    return both_forecasts(subject) if config.chooses_checkpointing else forecast(subject)


class MemoryWatch(TrainerCallback):
    """Measures the second step (the first one also checks itself) and compares it with the forecast."""

    def __init__(self, found: Forecast, *, folder: Path, say: Callable[[str], None]) -> None:
        self.found = found
        self.folder = folder
        self.say = say
        self.meter: PeakMemory | None = None
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Begin to measure after the first step, and say after the second step what was measured."""
        self.steps += 1
        if not state.is_world_process_zero or self.steps > 2:
            return
        if self.meter is None:
            self.meter = PeakMemory(args.device)
            return
        on_accelerator = self.meter.on_accelerator
        measured = self.meter.peak() if on_accelerator else self.meter.rise()
        if measured is None:
            return
        expected = self.found.peak.total_bytes if on_accelerator else self.found.rise_bytes
        what = "took" if on_accelerator else "added to resident memory"
        share = f"{measured / expected:.2f} of " if expected else ""
        self.say(
            f"memory: step {state.global_step} {what} {size(measured)}, {share}the {size(expected)} forecast at most"
        )
        entry = {
            "device": self.found.device,
            "forecast_peak_bytes": self.found.peak.total_bytes,
            "forecast_phase": self.found.peak.name,
            "forecast_rows": [row.example.source for row in self.found.peak.rows],
            "measured_step": state.global_step,
            "measured_bytes": measured,
            "forecast_of_measured_bytes": expected,
            "measured_is": "allocated" if on_accelerator else "rise of resident memory",
        }
        add_to_record(self.folder, "memory", entry)
