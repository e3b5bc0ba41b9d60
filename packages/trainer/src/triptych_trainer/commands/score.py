"""``triptych score``: other rewards for completions that were sampled before, by a run or by ``triptych rollout``."""

import argparse
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import yaml
from triptych_data import DataError, Examples, read_examples
from triptych_data.option_parser import checked, collected, refuse_given
from triptych_data.options import DataOptions, check_reading, data_files, image_policy, image_roots
from triptych_data.progress import Reporter

from triptych_trainer.commands.given_options import given_options
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.rollout import check_kept_target, check_new_folder, keep_mixed
from triptych_trainer.commands.sampled import named_weights, reward_functions
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.outcomes import PromptOutcome, mixed, print_outcomes, totals_of
from triptych_trainer.evaluation.recorded import RecordedRows, rescored
from triptych_trainer.monitor.run_record import write_command
from triptych_trainer.options.page_options import PAGE
from triptych_trainer.options.score_options import ScoreOptions, parser
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.report.build import build_report
from triptych_trainer.rewards.read import chosen_verdict
from triptych_trainer.rollouts.read import Visit, read_groups, read_visits
from triptych_trainer.rollouts.write import FOLDER, RolloutWriter

__all__ = ["main"]

ALL_ROWS = sys.float_info.max
"""A row that a run left out is left out here too, however many there are: it has no rollouts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych score``; return 0, or 2 after one line that says what is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    return outcome("triptych score", lambda: _run(parser().parse_args(words), words))


def _run(namespace: argparse.Namespace, words: Sequence[str]) -> int:
    options, out = collected(ScoreOptions, namespace), namespace.out
    reporter = Reporter(quiet=options.quiet)
    visits = read_visits(namespace.run_dir)
    if out is not None:
        check_new_folder(out)
    rewards = reward_functions(options.reward)
    chosen_verdict(rewards, options.verdict)
    if out is None:
        refuse_given(options, PAGE, why="only the page shows it; add -o with a folder for the page")
    weights = named_weights(rewards, options.reward_weights)
    data = _data_options(namespace)
    if options.keep_mixed:
        check_kept_target(options.keep_mixed, out, read=data.data or ())
    says_how = given_options(collected(DataOptions, namespace))
    tables = _given_tables(data) if says_how else _tables(data)
    rows = RecordedRows(tables, policy=image_policy(data))
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
        _write_page(namespace, options, data, words, reporter=reporter)
    return 0


def _by_part(visits: Sequence[Visit]) -> Iterator[list[Visit]]:
    """The visits part by part, so that one part at a time is in memory; parts are in the order of their names."""
    parts: dict[Path, list[Visit]] = defaultdict(list)
    for visit in visits:
        parts[visit.part].append(visit)
    for part in sorted(parts):
        yield parts[part]


def _data_options(namespace: argparse.Namespace) -> DataOptions:
    """What the command line says of the data, or else what the folder's ``config.yaml`` says."""
    given = collected(DataOptions, namespace)
    if given.data or given.eval_data:
        given.data = data_files(given)
        check_reading(given)
        return given
    try:
        said = yaml.safe_load((namespace.run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        said = None
    names = {option.name for option in fields(DataOptions)}
    found = {name: value for name, value in said.items() if name in names} if isinstance(said, dict) else {}
    own = given_options(given)
    options = checked(DataOptions(**{**found, **own}))
    if own:
        if not options.data and not options.eval_data:
            raise UsageError(
                f"--{next(iter(own))} says how rows are read, and {namespace.run_dir / 'config.yaml'} names no data; "
                "name the files with --data, or leave it out"
            )
        check_reading(options)
    return options


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
    keep_mixed(target, examples, chosen, format=data.data_format, roots=image_roots(data)[0])
    reporter.conclude(f"kept: {target} ({len(chosen)} of {len(dict(of_training))} rows)")


def _write_page(
    namespace: argparse.Namespace,
    options: ScoreOptions,
    data: DataOptions,
    words: Sequence[str],
    *,
    reporter: Reporter,
) -> None:
    out, images = namespace.out, namespace.run_dir / FOLDER / "images"
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
