"""`check`: look at dataset files before a run, with every image decoded or from headers alone."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from triptych_parser.printable import printable

from triptych_data.check_options import CheckOptions, parser
from triptych_data.fix import replacing, write_passed
from triptych_data.formats.dataset_info import ColumnNames
from triptych_data.inspect_row import FurtherLook, Inspection
from triptych_data.model_tokens import ModelTokens, chosen_model
from triptych_data.option_parser import collected
from triptych_data.options import DataOptions
from triptych_data.outcome import outcome
from triptych_data.quarantine import allowed
from triptych_data.read_row import format_reader, row_reader
from triptych_data.rows import Rows, open_rows
from triptych_data.scan import scan_rows
from triptych_data.shared_options import SharedOptions, shared_options
from triptych_data.show import show
from triptych_data.tally import Tally
from triptych_data.write_whole import check_target

COMMAND = "triptych-data check"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check."""
    return outcome(COMMAND, lambda: check(parser(COMMAND).parse_args(argv)))


def check(
    namespace: argparse.Namespace,
    *,
    further: FurtherLook | None = None,
    needs_prompt: bool = True,
    remark: Callable[[int], str | None] = lambda rows: None,
) -> int:
    """Check what a parsed command line names; `further` looks at every row that nothing here refuses.

    Without `needs_prompt` an environment gives the tasks of rows that have no prompt. `remark` is what is said last of
    the number of training rows that pass.
    """
    shared, own = shared_options(namespace), collected(CheckOptions, namespace)
    model = chosen_model(shared.model, shared.loading, shared.prompt)
    tallies = _checked_files(shared, own, model=model, further=further, needs_prompt=needs_prompt)
    first_eval = len(shared.train_files)
    tables = (tallies[:first_eval], tallies[first_eval:])
    said = remark(sum(tally.passed for tally in tables[0])) if tables[0] else None
    if said is not None:
        print(f"note: {said}")
    return 1 if any(_would_stop(table, shared.data) for table in tables) else 0


def _would_stop(tallies: Sequence[Tally], data: DataOptions) -> bool:
    """Whether a run with these options would stop at a row of these files, which it reads as one table."""
    refused = [error for tally in tallies for error in tally.refused]
    if data.on_bad == "stop" or any(error.kind == "io" for error in refused):
        return bool(refused)
    rows = sum(tally.rows for tally in tallies)
    return len(refused) > allowed(data.max_bad, rows) or 0 < rows == len(refused)


def _checked_files(
    shared: SharedOptions,
    own: CheckOptions,
    *,
    model: ModelTokens | None,
    further: FurtherLook | None,
    needs_prompt: bool,
) -> list[Tally]:
    data, files = shared.data, [*shared.train_files, *shared.held_out_files]
    fix = None if own.fix is None else Path(own.fix)
    if own.json is not None:
        check_target(Path(own.json), read=[file for file, _ in files], option="--json", others={"--fix": fix})
    total, tallies, console = Tally(), [], Console(soft_wrap=True)
    with contextlib.ExitStack() as stack:
        fixed = None
        if fix is not None:
            check_target(fix, read=[file for file, _ in files], option="--fix")
            fixed = stack.enter_context(replacing(fix))
        for file, root in files:
            start = time.perf_counter()
            rows = open_rows(file)
            read = row_reader(root=root, format=data.data_format, needs_prompt=needs_prompt)
            inspection = Inspection(
                read=read,
                format_of=format_reader(data.data_format),
                settings=shared.settings,
                decode=own.decode,
                model=model,
                further=further,
                has_environment=not needs_prompt,
            )
            tally, passed = _scan_file(rows, inspection, workers=own.workers)
            seconds, name = time.perf_counter() - start, escape(printable(file))
            console.print(f"[bold]{name}[/]  {len(rows):,} rows in {seconds:.1f} s", highlight=False)
            if fix is not None and fixed is not None:
                names = ColumnNames() if data.data_format in ("auto", "sharegpt") else None
                write_passed(rows, passed, fixed, read=read, folder=fix.parent, names=names, root=root)
            tallies.append(tally)
            total.add(tally)
            total.repeated.extend(tally.repeated)
    show(total, console=console, counted_for=shared.model, shown=own.show, decoded=own.decode)
    if fix is not None:
        console.print(f"{total.passed:,} rows written to {escape(printable(str(fix)))}", highlight=False)
    if own.json is not None:
        text = json.dumps(total.as_json(), ensure_ascii=False, indent=1) + "\n"
        Path(own.json).write_text(text, encoding="utf-8", errors="backslashreplace")
    return tallies


def _scan_file(rows: Rows, inspection: Inspection, *, workers: int) -> tuple[Tally, Sequence[int]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    bar = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    task = bar.add_task("decoding" if inspection.decode else "checking headers", total=len(rows))

    def progress(done: int) -> None:
        bar.start()  # only now: a thread must not run while the workers are forked
        bar.advance(task, done)

    try:
        return scan_rows(rows, inspection=inspection, workers=workers, progress=progress)
    finally:
        bar.stop()
