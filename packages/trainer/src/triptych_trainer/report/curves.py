"""Curves over steps as inline SVG with a legend and a table of the same numbers; static, readable without scripts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_data.pages import fragment
from triptych_data.pages.ticks import ticks

from triptych_trainer.report.summary import Curve

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 30
TABLE_ROWS = 60
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Contains a curve of a panel: its label and its colour, a number from 0; `style` is "train", "eval" or "other"."""

    label: str
    curve: Curve
    colour: int
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Contains series that share their axes."""

    key: str
    title: str
    explanation: str
    series: Sequence[Series]


def panel_html(panel: Panel) -> str:
    """Return the panel as a figure: heading, SVG, legend, numbers."""
    steps, stride, rows = _table(panel)
    return fragment(
        "triptych_trainer.report",
        "panel",
        panel=panel,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        chart=_chart(panel),
        spans=[_span(series.curve) for series in panel.series],
        steps=steps,
        stride=stride,
        rows=rows,
    )


def series_of(own: Sequence[Curve], other: Sequence[Curve], *, names: tuple[str, str | None]) -> list[Series]:
    """Return the curves of the run, and of the compared run behind them, with the colours and labels of a panel."""
    colours = {name: k for k, name in enumerate(dict.fromkeys(curve.name for curve in [*own, *other]))}
    several = len(colours) > 1
    found = []
    for run, curves in zip(names, (own, other), strict=True):
        for curve in curves:
            words = [curve.name if several else "", curve.mode if curve.mode != "train" else ""]
            words.append(f"({run})" if other else "")
            found.append(
                Series(
                    label=" ".join(word for word in words if word) or curve.mode,
                    curve=curve,
                    colour=(colours[curve.name] + (4 if curves is other and not several else 0)) % 8,
                    style="other" if curves is other else "eval" if curve.mode == "eval" else "train",
                )
            )
    return found


def _chart(panel: Panel) -> dict[str, Any]:
    """What is drawn of a panel, in the units of its view box."""
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

    return {
        "rows": [(f"{y(tick):.1f}", f"{y(tick) + 3.5:.1f}", f"{tick:.4g}") for tick in y_ticks],
        "columns": [(f"{x(tick):.1f}", f"{tick:.0f}") for tick in x_ticks],
        "lines": [_line(series, x, y) for series in panel.series],
    }


def _line(series: Series, x: Scale, y: Scale) -> dict[str, Any]:
    """The points of a curve, of the band around it, and of its dots."""
    curve = series.curve

    def points(values: Sequence[float]) -> list[str]:
        return [f"{x(step):.1f},{y(value):.1f}" for step, value in zip(curve.steps, values, strict=True)]

    band: list[str] = []
    if curve.low is not None and curve.high is not None and series.style == "train" and len(curve.steps) > 1:
        band = [*points(curve.high), *points(curve.low)[::-1]]
    line = points(curve.values)
    dots = [point.split(",") for point in line] if series.style == "eval" or len(line) == 1 else []
    return {"series": series, "band": " ".join(band), "points": " ".join(line), "dots": dots}


def _table(panel: Panel) -> tuple[list[int], int, list[list[str]]]:
    """The steps that the table of a panel shows, every how many-th they are, and the values of each."""
    steps = sorted({step for series in panel.series for step in series.curve.steps})
    stride = max(1, math.ceil(len(steps) / TABLE_ROWS))
    shown = steps[::stride] if (len(steps) - 1) % stride == 0 else [*steps[::stride], steps[-1]]
    columns = [dict(zip(series.curve.steps, series.curve.values, strict=True)) for series in panel.series]
    return shown, stride, [[f"{column[step]:.4g}" if step in column else "" for column in columns] for step in shown]


def _span(curve: Curve) -> str:
    if len(curve.values) == 1:
        return f"{curve.values[0]:.3g}"
    return f"{curve.values[0]:.3g} \u2192 {curve.values[-1]:.3g}"
