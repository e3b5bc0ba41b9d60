"""What ``triptych score`` does once its options are known to be right."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych_data import DataError, Examples, read_examples
from triptych_data.fix import write_chosen
from triptych_data.options import DataOptions, data_files, image_policy, image_roots
from triptych_data.progress import Reporter

from triptych_trainer.commands.given_options import given_options
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.outcomes import PromptOutcome, mixed, print_outcomes, totals_of
from triptych_trainer.evaluation.recorded import RecordedRows, rescored
from triptych_trainer.monitor.run_record import write_command
from triptych_trainer.options.score_options import ScoreOptions
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.report.build import build_report
from triptych_trainer.rollouts.parts import FOLDER
from triptych_trainer.rollouts.read import Visit, read_groups, read_visits
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["score_again"]

ALL_ROWS = sys.float_info.max
"""A row that a run left out is left out here too, however many there are: it has no rollouts."""


def score_again(
    run_dir: Path,
    out: Path | None,
    options: ScoreOptions,
    data: DataOptions,
    *,
    rewards: Sequence[Callable[..., Any]],
    weights: Mapping[str, float],
    must_read: bool,
    words: Sequence[str],
) -> None:
    """Score the rollouts of ``run_dir``, print what the rewards say, and write what the options ask for.

    ``must_read``: rows that cannot be read are an error; otherwise rewards do without them. ``words`` are those of the
    command line, for the record.

    Raises:
        ReportError: there are no rollouts, or a part cannot be read.
        UsageError: the rows that ``--keep_mixed`` is to write are not there.
        DataError: rows cannot be read.
    """
    reporter = Reporter(quiet=options.quiet)
    visits = read_visits(run_dir)
    rows = RecordedRows(_given_tables(data) if must_read else _tables(data), policy=image_policy(data))
    before, after, places = [], [], []
    writer = None if out is None else RolloutWriter(out, weights=weights)
    with reporter.stage("score", len(visits)) as bar:
        for part in _by_part(visits):
            records = []
            for visit, record in zip(part, read_groups(part), strict=True):
                place = rows.place(record)
                scores = rescored(record, rows.row(place), rewards=rewards)
                totals = totals_of(scores, weights)
                places.append(place)
                before.append(PromptOutcome(rewards=visit.rewards, totals=visit.totals))
                after.append(PromptOutcome(rewards=scores, totals=totals))
                unknown = [None] * len(totals)
                records.append(replace(record, rewards=scores, totals=totals, advantages=unknown))
                bar.advance()
            if writer is not None:
                writer.write(records)
    if not options.quiet:
        print_outcomes(reporter.console, after, before)
    for note in rows.notes(len(visits)):
        reporter.conclude(note)
    if options.keep_mixed:
        _keep(options.keep_mixed, rows, list(zip(places, after, strict=True)), data, reporter=reporter)
    if out is not None:
        _write_page(out, run_dir, options, data, words, reporter=reporter)


def _by_part(visits: Sequence[Visit]) -> Iterator[list[Visit]]:
    """The visits part by part, so that one part at a time is in memory; parts are in the order of their names."""
    parts: dict[Path, list[Visit]] = defaultdict(list)
    for visit in visits:
        parts[visit.part].append(visit)
    for part in sorted(parts):
        yield parts[part]


def _tables(data: DataOptions) -> list[ExampleTable]:
    """The rows of the files that a run has read; none where a file is not there any more."""
    try:
        data_files(data)
        return _given_tables(data)
    except (DataError, UsageError):
        return []


def _given_tables(data: DataOptions) -> list[ExampleTable]:
    """The rows of ``--data`` and of ``--eval_data``."""
    roots, held_out_roots = image_roots(data)
    return [
        ExampleTable(
            read_examples(
                list(files),
                image_root=list(folders),
                format=data.data_format,
                on_bad="skip",
                max_bad=ALL_ROWS,
                check_images=False,
            )
        )
        for files, folders in ((data.data, roots), (data.eval_data, held_out_roots))
        if files
    ]


def _keep(
    target: str,
    rows: RecordedRows,
    outcomes: Sequence[tuple[tuple[int, int] | None, PromptOutcome]],
    data: DataOptions,
    *,
    reporter: Reporter,
) -> None:
    if rows.num_missing:
        raise UsageError(
            f"--keep_mixed {target}: {rows.num_missing} groups have no row in the data that is here; name the files "
            "that were sampled for with --data"
        )
    of_training = [(place[1], one) for place, one in outcomes if place is not None and place[0] == 0 and data.data]
    if not of_training:
        raise UsageError(f"--keep_mixed {target}: all rollouts are of rows of --eval_data, which are not trained on")
    chosen, examples = mixed(of_training), rows.tables[0].examples
    assert isinstance(examples, Examples)
    roots = image_roots(data)[0]
    write_chosen(examples, chosen, Path(target), format=data.data_format, roots=roots, option="--keep_mixed")
    reporter.conclude(f"kept: {target} ({len(chosen)} of {len(dict(of_training))} rows)")


def _write_page(
    out: Path, run_dir: Path, options: ScoreOptions, data: DataOptions, words: Sequence[str], *, reporter: Reporter
) -> None:
    images = run_dir / FOLDER / "images"
    if images.is_dir():  # small copies of images that are no files, to which the records point
        shutil.copytree(images, out / FOLDER / "images")
    files = [Path(file) for file in (*(data.data or ()), *(data.eval_data or ()))]
    write_command(out, ["triptych", "score", *words], given_options(data, options), data=files)
    page = build_report(
        out,
        verdict=options.verdict,
        answer_frame=options.answer_frame,  # type: ignore[arg-type]
        completion_frame=options.completion_frame,  # type: ignore[arg-type]
    )
    reporter.conclude(f"what it said: {page}   rollouts: {out / FOLDER}")
