"""The means of an evaluation as HTML tables: every interval is a bar, and every difference has its own zero line."""

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.pages import fragment

from triptych_trainer.evaluation.paired import PairedDifference
from triptych_trainer.evaluation.scores import Mean

__all__ = ["Differences", "Slices", "change_in_words", "table_html"]

Slices = Mapping[str, Mapping[str, Mapping[str, Mean | None]]]
Differences = Mapping[str, Mapping[str, Mapping[str, PairedDifference | None]]]
WIDTH, HEIGHT = 200, 14


def table_html(reward: str, sliced: Mapping[str, Slices], paired: Differences | None, *, num_rows: int) -> str:
    """Return one reward's table: a row for each slice, whose name filters the rows of the page."""
    low, high = _range(reward, sliced)
    lines = []
    for slicing, slices in sliced["model"].items():
        for key in slices:
            cells = [_mean(of.get(slicing, {}).get(key, {}).get(reward), run, low, high) for run, of in sliced.items()]
            if paired is not None:
                cells.append(_difference(paired.get(slicing, {}).get(key, {}).get(reward)))
            found = slices[key].get(reward)
            lines.append(_line(slicing, key, found.num_rows if found else 0, cells))
    heads = ["slice", "rows", *(f"{run} (95 % interval)" for run in sliced)]
    heads += ["model − base, paired"] if paired is not None else []
    caption = f"{reward}, mean over {num_rows} rows; bars from {low:g} to {high:g}"
    size = {"width": WIDTH, "height": HEIGHT}
    return fragment("triptych_trainer.evaluation", "table", caption=caption, heads=heads, lines=lines, size=size)


def change_in_words(change: PairedDifference) -> str:
    """Say what a paired difference means, in words, for readers who are not used to intervals."""
    if change.low is None or change.high is None:
        return f"{change.mean:+.3f} against the base on one row, which says nothing about others"
    numbers = f"{change.mean:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f})"
    counts = f"{change.improved} of {change.num_rows} rows better, {change.regressed} worse"
    if change.is_clear:
        return f"{'better' if change.mean > 0 else 'worse'} than the base by {numbers}; {counts}"
    return f"no clear difference from the base, {numbers}; {counts}"


def _line(slicing: str, key: str, num_rows: int, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    label = "all rows" if slicing == "all" else f"{slicing} = {key}"
    return {"slicing": slicing, "key": key, "label": label, "num_rows": num_rows, "cells": cells}


def _mean(found: Mean | None, run: str, low: float, high: float) -> dict[str, Any]:
    if found is None:
        return {"words": "–"}
    if found.low is None or found.high is None:
        return {"words": f"{found.mean:.3f} (one row)"}
    places = [
        WIDTH * (min(max(value, low), high) - low) / (high - low) for value in (found.low, found.high, found.mean)
    ]
    return {"words": f"{found.mean:.3f} ({found.low:.2f} to {found.high:.2f})", "bar": _bar(places), "kind": run}


def _difference(found: PairedDifference | None) -> dict[str, Any]:
    if found is None:
        return {"words": "–"}
    if found.low is None or found.high is None:
        return {"words": f"{found.mean:+.3f} (one row)"}
    reach = max(abs(found.low), abs(found.high), 1.0)
    return {
        "words": f"{found.mean:+.3f} ({found.low:+.2f} to {found.high:+.2f})",
        "bar": _bar([WIDTH * (value + reach) / (2 * reach) for value in (found.low, found.high, found.mean)]),
        "kind": "unclear" if not found.is_clear else "up" if found.mean > 0 else "down",
        "title": f"{found.improved} rows better, {found.regressed} worse",
    }


def _bar(places: Sequence[float]) -> dict[str, str]:
    """Where the interval begins, how wide it is, and where the mean is."""
    left, right, at = places
    return {
        "left": f"{left:.1f}",
        "width": f"{max(right - left, 1):.1f}",
        "mean": f"{min(max(at - 1.5, 0), WIDTH - 3):.1f}",
    }


def _range(reward: str, sliced: Mapping[str, Slices]) -> tuple[float, float]:
    ends = [
        value
        for of in sliced.values()
        for slices in of.values()
        for cells in slices.values()
        if (found := cells.get(reward)) is not None
        for value in (found.low, found.high)
        if value is not None
    ]
    return min([0.0, *ends]), max([1.0, *ends])
