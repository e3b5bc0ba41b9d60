"""Gradient checkpointing by the forecast: activations are computed again only where saving them does not fit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from triptych_trainer.forecast.forecast import Forecast, Subject, forecast
from triptych_trainer.forecast.show import size
from triptych_trainer.options.arguments import RunConfig
from triptych_trainer.options.checkpointing import set_checkpointing

__all__ = ["FILLED", "BothForecasts", "both_forecasts", "with_checkpointing"]

FILLED = 0.8
"""The share of the memory that a forecast may fill: it may be a fifth too low, and does not count everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BothForecasts:
    """Contains the forecasts of one run with its activations saved, and with them computed again."""

    saved: Forecast
    checkpointed: Forecast

    def needs_checkpointing(self, room_bytes: int | None) -> bool:
        """Return whether to compute activations again; this is also true if the memory is not known."""
        return room_bytes is None or self.saved.peak.total_bytes > FILLED * room_bytes

    def chosen(self, room_bytes: int | None) -> Forecast:
        """Return the forecast of the run as it will be."""
        return self.checkpointed if self.needs_checkpointing(room_bytes) else self.saved

    def entry(self, room_bytes: int | None) -> dict[str, int | bool | None]:
        """Return the choice as the run's record contains it."""
        return {
            "on": self.needs_checkpointing(room_bytes),
            "forecast_peak_without_bytes": self.saved.peak.total_bytes,
            "forecast_peak_with_bytes": self.checkpointed.peak.total_bytes,
            "memory_bytes": room_bytes,
        }

    def sentence(self, room_bytes: int | None) -> str:
        """Return the choice in one line, with both peaks."""
        saved, checkpointed = size(self.saved.peak.total_bytes), size(self.checkpointed.peak.total_bytes)
        peaks = f"forecast at most {saved} without it, {checkpointed} with it"
        if room_bytes is None:
            return f"gradient checkpointing: on ({peaks}; the memory of this machine is not known, see --memory_gib)"
        if self.needs_checkpointing(room_bytes):
            return f"gradient checkpointing: on ({peaks}; more than {FILLED:.0%} of {size(room_bytes)} without it)"
        return f"gradient checkpointing: off ({peaks}; within {FILLED:.0%} of {size(room_bytes)})"


def both_forecasts(subject: Subject) -> BothForecasts:
    """Forecast a run both ways."""
    saved, checkpointed = (
        forecast(replace(subject, config=with_checkpointing(subject.config, on))) for on in (False, True)
    )
    return BothForecasts(saved=saved, checkpointed=checkpointed)


def with_checkpointing(config: RunConfig, on: bool) -> RunConfig:
    """Return the same run with gradient checkpointing decided."""
    args = copy.copy(config.grpo)
    set_checkpointing(args, on)
    return replace(config, grpo=args, chooses_checkpointing=False)
