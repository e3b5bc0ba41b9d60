"""`preview FILE...`: a dataset as one page, before a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych_data.inspect_row import FurtherLook
from triptych_data.model_tokens import ModelTokens, chosen_model
from triptych_data.option_parser import collected
from triptych_data.outcome import outcome
from triptych_data.preview.build import Preview, build_preview
from triptych_data.preview.collecting import Source, Trained, open_sources
from triptych_data.preview.options import PreviewOptions, parser
from triptych_data.progress import Reporter
from triptych_data.prompt_settings import PromptSettings
from triptych_data.shared_options import SharedOptions, shared_options
from triptych_data.write_whole import check_target

COMMAND = "triptych-data preview"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every row passes, 1 when a run would refuse some, 2 without a page and one line why."""
    return outcome(COMMAND, lambda: _preview(parser(COMMAND).parse_args(argv)))


def _preview(namespace: argparse.Namespace) -> int:
    shared = shared_options(namespace)
    sources = opened(shared)
    model = chosen_model(shared.model, shared.loading, shared.prompt)
    return write_preview(namespace, sources, model=model, settings=shared.settings)


def opened(shared: SharedOptions, *, needs_prompt: bool = True) -> list[Source]:
    """Return the files of a command line as sources of rows.

    Without `needs_prompt` an environment gives the tasks of rows that have no prompt.

    Raises:
        DataError: a file that cannot be read as rows.
    """
    files, roots = zip(*shared.train_files, *shared.held_out_files, strict=True)
    return open_sources(files, image_roots=roots, data_format=shared.data.data_format, needs_prompt=needs_prompt)


def write_preview(
    namespace: argparse.Namespace,
    sources: Sequence[Source],
    *,
    model: ModelTokens | None,
    settings: PromptSettings,
    trained: Trained | None = None,
    further: FurtherLook | None = None,
) -> int:
    """Write the page that a parsed command line asks for, and print what is in it; returns the exit code.

    Args:
        namespace: the parsed command line.
        sources: of the rows.
        model: counts tokens; without one only source sizes are shown.
        settings: how a run makes prompts of rows.
        trained: says what `sft` trains of each row.
        further: looks at every row that is refused for nothing else.

    Raises:
        DataError: a file fails while it is read; refused rows are shown and do not raise.
        OSError: the page cannot be written.
    """
    shared, options = shared_options(namespace), collected(PreviewOptions, namespace)
    reporter = Reporter(quiet=options.quiet)
    files = [file for file, _ in (*shared.train_files, *shared.held_out_files)]
    check_target(namespace.out, option="--out", read=files)
    names = [Path(file).name for file in files]
    preview = build_preview(
        sources,
        namespace.out,
        model=model,
        settings=settings,
        trained=trained,
        further=further,
        made=_made(shared),
        title=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more",
        limit=options.limit,
        max_bytes=int(options.max_megabytes * 2**20),
        threads=options.threads,
        reporter=reporter,
    )
    _conclude(preview, reporter)
    return 1 if preview.summary.refused else 0


def _made(shared: SharedOptions) -> list[tuple[str, str]]:
    """The options that say what is shown, as they were given."""
    files = [file for file, _ in (*shared.train_files, *shared.held_out_files)]
    found = [("files", " ".join(files)), ("image root", " ".join(shared.data.image_root or ()))]
    found.append(("model", shared.model or "none: images at their source size, no tokens"))
    for name, value in vars(shared.prompt).items():
        if value not in (None, "exact"):
            found.append((f"--{name}", f"{value:,}" if isinstance(value, int) else str(value)))
    return [(term, text) for term, text in found if text]


def _conclude(preview: Preview, reporter: Reporter) -> None:
    summary = preview.summary
    for problem, rows in summary.ordered_problems():
        reporter.say(f"  {rows:,} {'row' if rows == 1 else 'rows'}: {problem}")
    if preview.pictures_left_out:
        reporter.say(f"  {preview.pictures_left_out:,} images are named but not embedded: raise --max_megabytes")
    if summary.rows < preview.total:
        reporter.say(f"  the first {summary.rows:,} of {preview.total:,} rows: raise --limit")
    size = preview.page.stat().st_size / 2**10
    words = f"{summary.rows:,} rows, {summary.images:,} images, {summary.refused:,} would be refused"
    reporter.conclude(f"preview: {preview.page} ({words}, {_in_words(size)})")


def _in_words(kilobytes: float) -> str:
    return f"{kilobytes:,.0f} kB" if kilobytes < 1000 else f"{kilobytes / 2**10:,.1f} MB"
