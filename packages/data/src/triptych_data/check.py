"""`triptych check`: look at dataset files before a run, from headers alone or with a full decode."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triptych_data.errors import UsageError, printable
from triptych_data.fix import write_passed
from triptych_data.formats import FORMATS
from triptych_data.formats.dataset_info import ColumnNames
from triptych_data.inspect_row import Inspection
from triptych_data.model_tokens import ModelTokens, load_model_tokens
from triptych_data.outcome import outcome
from triptych_data.policy import ImagePolicy
from triptych_data.prompt_settings import PromptSettings
from triptych_data.read import row_reader
from triptych_data.rows import Rows, open_rows
from triptych_data.scan import scan
from triptych_data.show import show
from triptych_data.tally import Tally

_MAX_IMAGE_PIXELS = ImagePolicy().max_image_pixels


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every row passes, 1 when rows would be refused, 2 when it cannot run."""
    arguments = _parser().parse_args(argv)
    return outcome("triptych check", lambda: _check(arguments))


def _check(arguments: argparse.Namespace) -> int:
    tally = _run(arguments, Console(soft_wrap=True))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(tally.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 1 if tally.refused else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="triptych check", description="Check dataset files before a run.")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="JSONL, JSON, parquet or tar files, or saved datasets")
    add("--image_root", type=Path, metavar="DIR", help="folder of the image paths (default: beside each file)")
    add("--format", default="auto", choices=["auto", *FORMATS], help="row format (default: by its columns)")
    add("--decode", action="store_true", help="decode every image, not only its header")
    add("--model", metavar="DIR", help="count tokens with this model's processor (a folder or a hub name)")
    add("--min_pixels", type=int, metavar="N", help="pixel limit per image (needs --model)")
    add("--max_pixels", type=int, metavar="N", help="pixel limit per image (needs --model)")
    add("--max_prompt_image_tokens", type=int, metavar="N", help="limit for all images of a prompt (needs --model)")
    add("--max_prompt_tokens", type=int, metavar="N", help="refuse longer prompts (needs --model)")
    add(
        "--max_image_pixels", type=int, default=ImagePolicy().max_image_pixels, metavar="N", help="refuse larger images"
    )
    add("--animated", default="refuse", choices=["refuse", "first"], help="animations and pages")
    add("--allow_outside", type=Path, nargs="+", default=[], metavar="DIR", help="further folders images may lie in")
    add("--allow_remote", action="store_true", help="read images at addresses")
    add(
        "--workers", type=int, default=_default_workers(), metavar="N", help="processes (default: the cores, at most 8)"
    )
    add("--show", type=int, default=5, metavar="N", help="refused rows printed per kind")
    add("--json", type=Path, metavar="OUT", help="write the whole report here")
    add("--fix", type=Path, metavar="OUT", help="write the rows that pass here, as they stood (JSONL)")
    return parser


def _default_workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _run(arguments: argparse.Namespace, console: Console) -> Tally:
    model = None if arguments.model is None else load_model_tokens(arguments.model)
    limits = (
        arguments.min_pixels,
        arguments.max_pixels,
        arguments.max_prompt_image_tokens,
        arguments.max_prompt_tokens,
    )
    if model is None and any(limit is not None for limit in limits):
        raise UsageError("token and pixel limits need --model, whose processor does the counting")
    if model is not None:
        model = model.with_pixels(min_pixels=arguments.min_pixels, max_pixels=arguments.max_pixels)
    total = Tally()
    if arguments.fix is not None:
        _refuse_overwriting(arguments.fix, arguments.files)
    with contextlib.ExitStack() as stack:
        stream = None if arguments.fix is None else stack.enter_context(_replacing(arguments.fix))
        for file in arguments.files:
            start = time.perf_counter()
            rows = open_rows(file)
            tally, passed = _scan_file(rows, arguments, model)
            seconds = time.perf_counter() - start
            name = escape(printable(file))
            console.print(f"[bold]{name}[/]  {len(rows):,} rows in {seconds:.1f} s", highlight=False)
            if stream is not None:
                _write_passed(rows, passed, stream, arguments)
            total.add(tally)
            total.repeated.extend(tally.repeated)
    show(total, console=console, counted_for=arguments.model, shown=arguments.show)
    if arguments.fix is not None:
        console.print(f"{total.passed:,} rows written to {arguments.fix}", highlight=False)
    return total


def _scan_file(rows: Rows, arguments: argparse.Namespace, model: ModelTokens | None) -> tuple[Tally, Sequence[int]]:
    inspection = Inspection(
        read=row_reader(root=arguments.image_root, format=arguments.format),
        settings=PromptSettings(
            max_prompt_image_tokens=arguments.max_prompt_image_tokens,
            max_prompt_tokens=arguments.max_prompt_tokens,
            policy=ImagePolicy(
                allow_remote=arguments.allow_remote,
                allow_outside=tuple(arguments.allow_outside),
                max_image_pixels=arguments.max_image_pixels,
                animated=arguments.animated,
            ),
        ),
        decode=arguments.decode,
        model=model,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    bar = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    task = bar.add_task("decoding" if arguments.decode else "checking headers", total=len(rows))

    def progress(done: int) -> None:
        bar.start()  # only now: a thread must not run while the workers are forked
        bar.advance(task, done)

    try:
        return scan(rows, inspection=inspection, workers=arguments.workers, progress=progress)
    finally:
        bar.stop()


def _refuse_overwriting(target: Path, files: Sequence[str]) -> None:
    if any(target.exists() and Path(file).exists() and target.samefile(file) for file in files):
        raise UsageError(f"--fix would overwrite {target}, which is being checked: name another file")


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[TextIO]:
    """A file that takes the place of `target` once everything is written, and is removed where it is not."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            yield stream
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_passed(rows: Rows, passed: Sequence[int], stream: TextIO, arguments: argparse.Namespace) -> None:
    write_passed(
        rows,
        passed,
        stream,
        read=row_reader(root=arguments.image_root, format=arguments.format),
        folder=arguments.fix.parent,
        names=ColumnNames() if arguments.format in ("auto", "sharegpt") else None,
        root=arguments.image_root,
    )


if __name__ == "__main__":
    sys.exit(main())
