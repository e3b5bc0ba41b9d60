"""The memory of a run before it begins: its forecast, what is chosen by it, and what will measure it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from triptych_data import Example
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.ranks import decided_by_first
from triptych_trainer.forecast.watch import MemoryWatch, RunForecast, forecast_run
from triptych_trainer.monitor.run_record import add_to_record
from triptych_trainer.options.arguments import RunConfig
from triptych_trainer.options.checkpointing import set_checkpointing

__all__ = ["memory_watches"]


def memory_watches(
    model: torch.nn.Module,
    processor: Any,
    *,
    examples: Sequence[Example],
    config: RunConfig,
    say: Callable[[str], None],
    seen: SeenHeaders | None = None,
    has_turns: bool = False,
) -> list[TrainerCallback]:
    """Forecast the run's memory, let the forecast choose what the options leave to it, return what will measure it.

    Only the first rank forecasts, and every rank has to call this. The choice is written into ``config.grpo``. Without
    a forecast gradient checkpointing stays on where it was to be chosen, as it is in TRL.
    """
    output = Path(config.grpo.output_dir)
    watches: list[TrainerCallback] = []

    def forecast() -> RunForecast | None:
        return forecast_run(model, processor, examples=examples, config=config, say=say, seen=seen)

    def decide() -> bool:
        found, why = None, "--memory_forecast false"
        if has_turns:
            why = "how many turns and images the tools add is not known before a run"
            say(f"memory is not forecast: {why}")
        elif config.run.memory_forecast and examples:
            found, why = forecast(), "no forecast"
        if found is not None:
            watches.append(MemoryWatch(found.found, folder=output, say=say))
        elif config.chooses_checkpointing:
            say(f"gradient checkpointing: on ({why})")
        if config.chooses_checkpointing:
            choice = {"on": True, "because": why} if found is None else found.choice
            add_to_record(output, "gradient_checkpointing", choice)
        return config.grpo.gradient_checkpointing if found is None else found.checkpointing

    rank = config.grpo.process_index
    if config.chooses_checkpointing:
        set_checkpointing(config.grpo, decided_by_first(decide, rank=rank))
    elif rank == 0:
        decide()
    return watches
