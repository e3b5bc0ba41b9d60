"""The output of a forecast: tables for people, and JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from triptych_trainer.forecast.alternatives import Alternative, PixelCap
from triptych_trainer.forecast.calibrate import Measured
from triptych_trainer.forecast.duration import Duration, Hardware, tokens_per_step
from triptych_trainer.forecast.forecast import Forecast, PhaseForecast
from triptych_trainer.forecast.row_costs import RowCost

__all__ = ["PHASE_NAMES", "as_json", "show_alternatives", "show_fit", "show_forecast", "show_time", "size"]

PHASE_NAMES: dict[str, str] = {
    "generate": "generate",
    "score": "old / reference",
    "policy": "policy pass",
    "training": "training pass",
    "update": "optimizer",
}
KEPT_BY_GLIBC = (
    "glibc keeps freed memory, so that a process can take twice its activations: start it with "
    "MALLOC_MMAP_THRESHOLD_=4194304 MALLOC_TRIM_THRESHOLD_=4194304 (docs/plan.md)"
)
_SHOWN_ROWS = 4


def size(num_bytes: float) -> str:
    """Return a number of bytes in the unit that leaves three digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.0f} {unit}" if abs(num_bytes) >= 100 or unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.2f} TiB"


def show_forecast(forecast: Forecast, console: Console) -> None:
    """Print parameters, the table of phases, and the rows that set the peak."""
    states = forecast.static_memory
    million = [number / 1e6 for number in (states.num_parameters, states.num_vision, states.num_trainable)]
    console.print(
        f"{million[0]:,.1f} M parameters, {million[1]:,.1f} M of them for vision; {million[2]:,.1f} M trained"
    )
    console.print(_static_memory_table(forecast))
    console.print(_phases_table(forecast))
    peak = forecast.peak
    console.print(f"[bold]peak {size(peak.total_bytes)}[/] in {PHASE_NAMES[peak.name]}, {_ranks(forecast)}")
    for row in peak.rows[:_SHOWN_ROWS]:
        console.print(f"  set by {escape(row.place)}")
    if len(peak.rows) > _SHOWN_ROWS:
        console.print(f"  and {len(peak.rows) - _SHOWN_ROWS} more rows, the next in tokens")
    if forecast.device == "cpu":
        console.print(f"  this is what is allocated; {KEPT_BY_GLIBC}", soft_wrap=True)


def _ranks(forecast: Forecast) -> str:
    number = forecast.step.num_ranks
    return f"on {forecast.device}" if number == 1 else f"on each of {number} {forecast.device} devices"


def _static_memory_table(forecast: Forecast) -> Table:
    states = forecast.static_memory
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("in memory throughout")
    table.add_column("", justify="right")
    for name, value in (
        ("weights", states.weights_bytes),
        ("reference model", states.reference_bytes),
        ("gradients", states.gradients_bytes),
        ("gradient buckets of DDP", states.buckets_bytes),
        ("optimizer state", states.optimizer_bytes),
    ):
        if value:
            table.add_row(name, size(value))
    return table


def _phases_table(forecast: Forecast) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("phase", no_wrap=True)
    for name in ("static", "gradients", "features", "KV cache", "activations", "total"):
        table.add_column(name, justify="right")
    for phase in forecast.phases:
        parts = (
            phase.static_bytes,
            phase.gradients_bytes,
            phase.features_bytes,
            phase.cache_bytes,
            phase.activations_bytes,
        )
        cells = [size(part) if part else "-" for part in parts]
        style = "bold" if phase is forecast.peak else None
        table.add_row(PHASE_NAMES[phase.name], *cells, size(phase.total_bytes), style=style)
    return table


def show_time(
    forecast: Forecast,
    rows: Sequence[RowCost],
    estimate: Duration | None,
    console: Console,
    *,
    hardware: Hardware | None,
    measured: Measured | None,
) -> None:
    """Print what a step consists of, and how long a run takes under which assumptions."""
    images, prompt_tokens, completion_tokens = tokens_per_step(forecast, rows)
    step = forecast.step
    prompts = "1 prompt" if step.prompts_per_step == 1 else f"{step.prompts_per_step:g} prompts"
    steps = "1 step" if step.num_steps == 1 else f"{step.num_steps:,} steps"
    console.print(
        f"{steps}; a step has {prompts} with {images:,.0f} images, "
        f"{prompt_tokens:,.0f} prompt tokens and at most {completion_tokens:,.0f} completion tokens"
    )
    if step.arrived_tokens:
        console.print(
            f"  of a rollout's {step.completion_tokens:,} tokens {step.arrived_tokens:,} are results of tools with "
            f"{step.arrived_images:,} images, none like another; the others are sampled"
        )
    if measured is not None:
        _show_measured(measured, console)
    if estimate is None or hardware is None:
        console.print("no hours: give --tflops and --memory_bandwidth of the machine, or --calibrate on it")
        return
    parts = [f"generate {estimate.generate_seconds:,.1f}", f"policy {estimate.policy_seconds:,.1f}"]
    if estimate.score_seconds:
        parts.insert(1, f"old / reference {estimate.score_seconds:,.1f}")
    console.print(
        f"[bold]about {_long(estimate.hours)}[/], {estimate.step_seconds:,.1f} s a step ({', '.join(parts)})"
        + (", corrected by the measured pass" if measured else "")
    )
    console.print(f"  assumed: {_assumptions(hardware)}; rewards and image decoding not counted")


def _assumptions(hardware: Hardware) -> str:
    if hardware.measured:
        return f"the measured rate for every pass, {hardware.memory_bandwidth:g} GB/s for decoding"
    numbers = f"{hardware.tflops:g} TFLOP/s at {hardware.mfu:.0%} of it, {hardware.memory_bandwidth:g} GB/s"
    note = " (where not given: an A100 80 GB by its data sheet, and a guess at the share)" if hardware.assumed else ""
    return numbers + note


def _long(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:,.1f} minutes"


def _show_measured(measured: Measured, console: Console) -> None:
    memory = "memory not readable here"
    if measured.allocated_bytes is not None:
        share = measured.forecast_bytes / measured.allocated_bytes if measured.allocated_bytes else float("nan")
        memory = (
            f"{size(measured.allocated_bytes)} allocated, forecast {size(measured.forecast_bytes)} ({share:.2f} of it)"
        )
    console.print(
        f"measured on {measured.device}: the heaviest policy pass took {measured.seconds:.2f} s "
        f"({measured.tflops:.3f} TFLOP/s); {memory}"
    )


def show_alternatives(
    forecast: Forecast, found: Sequence[Alternative], console: Console, *, memory_bytes: int | None
) -> None:
    """Print what each setting would change."""
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.add_column("if changed", no_wrap=True)
    for name in ("from", "to", "peak", "saves", *(["fits"] if memory_bytes else [])):
        table.add_column(name, justify="right")
    total = forecast.peak.total_bytes
    for alternative in sorted(found, key=lambda alternative: alternative.peak_bytes):
        saved = total - alternative.peak_bytes
        fits = ["yes" if alternative.peak_bytes <= memory_bytes else "no"] if memory_bytes else []
        table.add_row(
            alternative.name, alternative.now, alternative.changed, size(alternative.peak_bytes), _saved(saved), *fits
        )
    console.print(table)


def _saved(num_bytes: int) -> str:
    if not num_bytes:
        return "nothing"
    return size(num_bytes) if num_bytes > 0 else f"{size(-num_bytes)} more"


def show_fit(
    forecast: Forecast, cap: PixelCap | None, console: Console, *, memory_bytes: int, max_pixels_known: bool
) -> None:
    """Print whether the run fits, and if not, which row does not and what would help."""
    peak = forecast.peak
    if peak.total_bytes <= memory_bytes:
        left = memory_bytes - peak.total_bytes
        console.print(f"[bold green]fits[/] into {size(memory_bytes)}, {size(left)} left for what is not counted")
        return
    row = f": {escape(peak.rows[0].place)}" if peak.rows else ""
    over = size(peak.total_bytes - memory_bytes)
    console.print(f"[bold red]does not fit[/] into {size(memory_bytes)}, by {over}{row}")
    if cap is not None:
        console.print(
            f"  it would with --max_pixels {cap.max_pixels} or --max_prompt_image_tokens {cap.max_prompt_image_tokens} "
            f"({size(cap.peak_bytes)}; {cap.num_rows:,} rows get smaller images)"
        )
    elif not max_pixels_known:
        console.print("  this processor has tiles or a fixed size, so no pixel limit helps; see the settings above")
    else:
        console.print("  no size of the images would make it fit; see the settings above")


def as_json(
    forecast: Forecast,
    found: Sequence[Alternative],
    *,
    rows: Sequence[RowCost],
    estimate: Duration | None,
    hardware: Hardware | None,
    measured: Measured | None,
    memory_bytes: int | None,
    cap: PixelCap | None,
) -> dict[str, Any]:
    """Return the whole plan as plain values."""
    images, prompt_tokens, completion_tokens = tokens_per_step(forecast, rows)
    return {
        "device": forecast.device,
        "peak": {"phase": forecast.peak.name, "bytes": forecast.peak.total_bytes},
        "static_memory": asdict(forecast.static_memory),
        "phases": [_phase(phase) for phase in forecast.phases],
        "step": {
            **asdict(forecast.step),
            "images": images,
            "prompt_tokens": prompt_tokens,
            "completion_tokens_at_most": completion_tokens,
        },
        "duration": None if estimate is None else {**asdict(estimate), "hours": estimate.hours},
        "hardware": None if hardware is None else asdict(hardware),
        "measured": None if measured is None else asdict(measured),
        "alternatives": [asdict(alternative) for alternative in found],
        "memory_bytes": memory_bytes,
        "fits": None if memory_bytes is None else forecast.peak.total_bytes <= memory_bytes,
        "would_fit_with": None if cap is None else asdict(cap),
    }


def _phase(phase: PhaseForecast) -> dict[str, Any]:
    names = ("activations_bytes", "cache_bytes", "features_bytes", "pixels_bytes", "gradients_bytes", "static_bytes")
    return {
        "name": phase.name,
        "total_bytes": phase.total_bytes,
        **{name: getattr(phase, name) for name in names},
        "flops": phase.flops,
        "rows": [
            {
                "source": row.example.source,
                "id": row.example.id,
                "images": len(row.images.sizes),
                "tokens": row.num_tokens,
                "image_tokens": row.image_tokens,
            }
            for row in phase.rows
        ],
    }
