"""What ``triptych eval`` says on the terminal and writes as JSON."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from triptych_data.write_whole import write_whole
from triptych_parser.printable import printable

from triptych_trainer.evaluation.bars import Differences, Slices, change_in_words
from triptych_trainer.evaluation.calls import call_counts
from triptych_trainer.evaluation.paired import PairedDifference
from triptych_trainer.evaluation.scores import Mean, ScoredRow

__all__ = ["print_means", "short_columns", "write_json"]


def print_means(
    console: Console, sliced: Mapping[str, Slices], paired: Differences | None, *, rewards: Sequence[str]
) -> None:
    """Print a table for each reward; with a base its means, the paired differences, and what they mean in words."""
    if not console.is_terminal:  # a file has no width of its own
        console = Console(file=console.file, width=110)
    for reward in rewards:
        console.print(_table(reward, sliced, paired))
    overall = paired["all"]["all"] if paired is not None else {}
    for reward, change in overall.items():
        if change is not None:
            console.print(_plain_text(f"{reward}: {change_in_words(change)}"))


def write_json(
    path: Path,
    scored: Mapping[str, Sequence[ScoredRow]],
    sliced: Mapping[str, Slices],
    paired: Differences | None,
    *,
    names: Mapping[str, str],
    data: str,
) -> None:
    """Write every mean, every paired difference and every row."""
    content = {
        "data": data,
        "models": dict(names),
        "tools": {run: call_counts(rows) for run, rows in scored.items()},
        "slices": {run: _plain(slices) for run, slices in sliced.items()},
        "model_minus_base": None if paired is None else _plain(paired),
        "rows": {run: [dataclasses.asdict(row) for row in rows] for run, rows in scored.items()},
    }
    write_whole(path, (json.dumps(content, indent=1, default=str) + "\n").encode("utf-8"))


def short_columns(rows: Sequence[ScoredRow], *, at_most: int = 12) -> list[str]:
    """Return the columns that have few text or number values, which make readable slices."""
    chosen = []
    for name in sorted({name for row in rows for name in row.columns}):
        values = [row.columns.get(name) for row in rows]
        plain = all(isinstance(value, (str, int)) or value is None for value in values)
        if name != "answer" and plain and 1 < len(set(values)) <= at_most:
            chosen.append(name)
    return chosen


def _table(reward: str, sliced: Mapping[str, Slices], paired: Differences | None) -> Table:
    table = Table(title=_plain_text(f"{reward}: mean and 95 % interval"), title_justify="left")
    table.add_column("slice", overflow="fold")
    for name in ("rows", *sliced, *(["model - base"] if paired is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for slicing, slices in sliced["model"].items():
        for key in slices:
            found = [of.get(slicing, {}).get(key, {}).get(reward) for of in sliced.values()]
            cells = [_mean(mean) for mean in found]
            cells += [_change(paired.get(slicing, {}).get(key, {}).get(reward))] if paired is not None else []
            size = max((mean.num_rows for mean in found if mean), default=0)
            label = _plain_text("all" if slicing == "all" else f"{slicing} = {key}")
            table.add_row(label, str(size), *cells)
        table.add_section()
    return table


def _plain_text(text: str) -> Text:
    """A text with names and values of the data in it, which are neither markup nor orders to the terminal."""
    return Text(printable(text, kept=""))


def _plain(slicings: Slices | Differences) -> dict[str, Any]:
    return {
        slicing: {
            key: {name: cell and dataclasses.asdict(cell) for name, cell in cells.items()}
            for key, cells in slices.items()
        }
        for slicing, slices in slicings.items()
    }


def _mean(found: Mean | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:.3f} " + ("(one row)" if found.low is None else f"({found.low:.2f} to {found.high:.2f})")


def _change(found: PairedDifference | None) -> str:
    if found is None:
        return "-"
    return f"{found.mean:+.3f} " + ("(one row)" if found.low is None else f"({found.low:+.2f} to {found.high:+.2f})")
