"""The table of docs/families.md: what the tests of a family measured, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[4] / "docs" / "families.md"
BEGIN, END = "<!-- table: written by make families -->", "<!-- end of the table -->"
COLUMNS = {
    "model_type": "model type",
    "note": "models",
    "path": "path",
    "logps": "log-probabilities",
    "gradients": "gradients",
    "greedy": "greedy tokens equal",
    "command": "`train` runs",
    "router_loss": "router loss",
    "adapter": "adapter",
}
"""What a test records, and the head of its column."""
NUMBERS = ("logps", "gradients")
SAME = 10.0
"""Rounding differs between processors: a number that is so many times another is still the one that was written."""


def stated_rows() -> dict[str, dict[str, str]]:
    """The rows of the document by what they stand for, each cell as text by the name of its column."""
    table = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in cells]
    return {row["note"]: row for row in rows}


def write_rows(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the table; what no test recorded says no, and a family that no test measured keeps its row."""
    stated = stated_rows()
    lines = [
        f"Written on {date.today()} with transformers {version('transformers')}, TRL {version('trl')} and "
        f"torch {version('torch').partition('+')[0]}.",
        "",
    ]
    lines += [f"| {' | '.join(COLUMNS.values())} |", "|---|---|---|---:|---:|---|---|---|---|"]
    for row in rows.values():
        cells = {name: as_text(name, row.get(name, False)) for name in COLUMNS}
        cells = dict(stated.get(row["note"], cells)) if row.keys() == {"note"} else cells
        cells |= {name: f"`{cells[name]}`" for name in ("model_type", "adapter")}
        lines.append(f"| {' | '.join(cells.values())} |")
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")


def as_text(name: str, value: Any) -> str:
    """A cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.0e}" if name in NUMBERS else str(value)


def differences(stated: Mapping[str, str] | None, measured: Mapping[str, Any]) -> list[str]:
    """Where a row of the document says something else than a test measured."""
    if stated is None:
        return ["it has no row"]
    wrong = []
    for name, value in measured.items():
        if name in NUMBERS:
            ratio = max(value, 1e-7) / max(float(stated[name]), 1e-7)
            same = 1 / SAME <= ratio <= SAME
        else:
            same = stated[name] == as_text(name, value)
        if not same:
            wrong.append(f"{name}: {stated[name]} is written, {as_text(name, value)} measured")
    return wrong
