"""Curves over steps as inline SVG with a legend and a table of the same numbers; static, readable without scripts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from triptych_trainer.report.summary import Curve

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
TABLE_ROWS = 60
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A curve in a panel: its label and its colour, a number from 0; `style` is "train", "eval" or "other"."""

    label: str
    curve: Curve
    colour: int
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Series that share their axes."""

    key: str
    title: str
    explanation: str
    series: Sequence[Series]


def panel_html(panel: Panel) -> str:
    """Return the panel as a figure: heading, SVG, legend, numbers."""
    return (
        f'<figure class="panel" id="panel-{escape(panel.key)}">'
        f"<figcaption><h3>{escape(panel.title)}</h3><p>{escape(panel.explanation)}</p></figcaption>"
        f"{_svg(panel)}{_legend(panel)}{_table(panel)}</figure>"
    )


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return round numbers that cover [low, high], about `count` steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _svg(panel: Panel) -> str:
    curves = [series.curve for series in panel.series]
    values = [value for curve in curves for part in (curve.values, curve.low, curve.high) for value in part or ()]
    steps = [step for curve in curves for step in curve.steps]
    y_ticks = ticks(min(values), max(values))
    first, last = min(steps), max(steps)
    x_ticks = [step for step in ticks(first, last) if first <= step <= last and step == int(step)] or [float(first)]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((step - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]))

    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in y_ticks
    ) + "".join(
        f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{tick:.0f}</text>'
        for tick in x_ticks
    )
    lines = "".join(_series_svg(series, x, y) for series in panel.series)
    summary = "; ".join(f"{series.label}: {_span(series.curve)}" for series in panel.series)
    label = escape(f"{panel.title} by step. {summary}")
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{label}" '
        f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}">{grid}'
        f'<text class="tick" x="{LEFT - 14}" y="{HEIGHT - 12}" text-anchor="end">step</text>{lines}</svg>'
    )


def _series_svg(series: Series, x: Scale, y: Scale) -> str:
    curve = series.curve
    band = ""
    if curve.low is not None and curve.high is not None and series.style == "train" and len(curve.steps) > 1:
        upper = [f"{x(step):.1f},{y(value):.1f}" for step, value in zip(curve.steps, curve.high, strict=True)]
        lower = [f"{x(step):.1f},{y(value):.1f}" for step, value in zip(curve.steps, curve.low, strict=True)]
        band = f'<polygon class="band k{series.colour}" points="{" ".join(upper + lower[::-1])}"/>'
    points = [(x(step), y(value)) for step, value in zip(curve.steps, curve.values, strict=True)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    line = f'<polyline class="line {series.style} k{series.colour}" points="{path}"/>'
    if series.style == "eval" or len(points) == 1:
        line += "".join(f'<circle class="dot k{series.colour}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in points)
    return band + line


def _legend(panel: Panel) -> str:
    items = "".join(
        f'<li><svg class="swatch" viewBox="0 0 22 8" aria-hidden="true"><line class="line {series.style} '
        f'k{series.colour}" x1="1" x2="21" y1="4" y2="4"/></svg>{escape(series.label)} '
        f"<b>{escape(_span(series.curve))}</b></li>"
        for series in panel.series
    )
    return f'<ul class="legend">{items}</ul>'


def _table(panel: Panel) -> str:
    steps = sorted({step for series in panel.series for step in series.curve.steps})
    stride = max(1, math.ceil(len(steps) / TABLE_ROWS))
    shown = steps[::stride] if (len(steps) - 1) % stride == 0 else [*steps[::stride], steps[-1]]
    columns = [dict(zip(series.curve.steps, series.curve.values, strict=True)) for series in panel.series]
    head = "".join(f'<th scope="col">{escape(series.label)}</th>' for series in panel.series)
    body = "".join(
        f'<tr><th scope="row">{step}</th>'
        + "".join(f"<td>{column[step]:.4g}</td>" if step in column else "<td></td>" for column in columns)
        + "</tr>"
        for step in shown
    )
    every = f", every {stride}th" if stride > 1 else ""
    caption = f"<caption>{escape(panel.title)} by step{every}</caption>"
    header = f'<thead><tr><th scope="col">step</th>{head}</tr></thead>'
    table = f"<table>{caption}{header}<tbody>{body}</tbody></table>"
    return f'<details><summary>Numbers</summary><div class="scroll" tabindex="0">{table}</div></details>'


def _span(curve: Curve) -> str:
    if len(curve.values) == 1:
        return f"{curve.values[0]:.3g}"
    return f"{curve.values[0]:.3g} \u2192 {curve.values[-1]:.3g}"
