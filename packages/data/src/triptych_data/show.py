"""A check's result as a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from triptych_parser.printable import printable

from triptych_data.errors import DataError
from triptych_data.tally import Tally, percentiles

_SHOWN_PER_KIND = 5

KINDS = {
    "json": "lines that are not JSON objects",
    "record": "rows of no known shape",
    "markers": "markers and images do not fit",
    "sft": "rows that sft cannot train on",
    "answer": "answers that no completion can meet",
    "missing": "missing images",
    "escape": "paths that leave the image root",
    "remote": "addresses instead of files",
    "not_a_file": "not regular files",
    "truncated": "images cut short",
    "corrupt": "damaged images",
    "format": "not images, or formats not allowed",
    "animated": "animations or several pages",
    "too_large": "images over the limits",
    "depth": "pixels of unknown range",
    "shape": "images too thin",
    "budget": "prompts over the budget",
    "tokens": "prompts that cannot be tokenized",
    "changed": "images replaced while a run was under way",
    "io": "could not be read now",
}


def show(
    tally: Tally, *, console: Console, counted_for: str | None, shown: int = _SHOWN_PER_KIND, decoded: bool = True
) -> None:
    """Print counts, distributions, notes, and refused rows by kind with file:line.

    The last line says if the images were not `decoded`.
    """
    console.print(_distributions(tally, counted_for))
    _print_counter(console, "read as", tally.read_as.most_common())
    _print_counter(console, "images per prompt", sorted(tally.images_per_prompt.items()))
    _print_counter(console, "image formats", tally.formats.most_common())
    _print_counter(console, "columns for rewards", tally.columns.most_common())
    for note, count in tally.notes.most_common():
        console.print(f"  note: {count:,} {note}", highlight=False)
    if tally.repeated:
        _print_repeated(console, tally.repeated, shown)
    by_kind: dict[str, list[DataError]] = {}
    for error in tally.refused:
        by_kind.setdefault(error.kind, []).append(error)
    for kind, count in Counter(error.kind for error in tally.refused).most_common():
        console.print(f"\n[bold red]{count:,} refused: {KINDS.get(kind, kind)}[/]", highlight=False)
        for error in by_kind[kind][:shown]:
            console.print(f"  {escape(printable(str(error)))}", highlight=False, soft_wrap=True)
        if count > shown:
            console.print(f"  ... and {count - shown:,} more (--json lists all)", highlight=False)
    verdict = f"{tally.rows:,} rows, {tally.passed:,} pass, {len(tally.refused):,} would be refused"
    rest = "" if decoded or not tally.long_sides else "; only headers were read (--no_decode): damaged images may pass"
    console.print(f"\n[bold {'red' if tally.refused else 'green'}]{verdict}[/]{rest}", highlight=False)


def _distributions(tally: Tally, counted_for: str | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("p50", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    lines: list[tuple[str, Sequence[int]]] = [
        ("image long side, pixels", tally.long_sides),
        ("image size, kilopixels", tally.kilopixels),
    ]
    if counted_for is not None:
        lines += [
            (f"image tokens per prompt ({escape(counted_for)})", tally.image_tokens),
            ("all tokens per prompt", tally.prompt_tokens),
        ]
    for label, values in lines:
        found = percentiles(values)
        if found is not None:
            table.add_row(label, *(f"{value:,}" for value in found.values()))
    return table


def _print_counter(console: Console, label: str, items: Sequence[tuple[object, int]]) -> None:
    if items:
        text = "  ".join(f"{escape(printable(str(name), kept=''))}: {count:,}" for name, count in items[:12])
        more = f"  (+{len(items) - 12} more)" if len(items) > 12 else ""
        console.print(f"{label}  {text}{more}", highlight=False)


def _print_repeated(console: Console, repeated: Sequence[tuple[str, str]], shown: int) -> None:
    console.print(f"\n[bold yellow]{len(repeated):,} rows repeat an earlier one[/] (they pass)", highlight=False)
    for source, first in repeated[:shown]:
        console.print(f"  {escape(printable(f'{source} repeats {first}', kept=''))}", highlight=False, soft_wrap=True)
