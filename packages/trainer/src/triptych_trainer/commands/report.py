"""`triptych report RUN_DIR`: build the page of a run's rollouts again."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych_data.option_parser import collected, refuse_given
from triptych_data.write_whole import check_target
from triptych_parser.printable import printable

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.options.report_options import ReportOptions, parser
from triptych_trainer.report.build import build_report
from triptych_trainer.report.learned import build_learned_report, is_learned


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after one line that says what is wrong."""
    return outcome("triptych report", lambda: _report(parser().parse_args(argv)))


def _report(namespace: argparse.Namespace) -> int:
    options = collected(ReportOptions, namespace)
    if namespace.out is not None:
        check_target(namespace.out, option="--out", read=[namespace.run_dir])
    compare = None if options.compare is None else Path(options.compare)
    if is_learned(namespace.run_dir):
        names = ("max_groups", "max_image_mb", "verdict", "answer_frame", "completion_frame")
        refuse_given(options, names, why=f"{namespace.run_dir} is a run of sft, whose page has no rollouts")
        page = build_learned_report(namespace.run_dir, namespace.out, compare=compare)
        print(f"report: {printable(str(page), kept='')}")
        return 0
    page = build_report(
        namespace.run_dir,
        namespace.out,
        compare=compare,
        max_groups=options.max_groups,
        max_image_bytes=int(options.max_image_mb * 2**20),
        verdict=options.verdict,
        answer_frame=options.answer_frame,  # type: ignore[arg-type]
        completion_frame=options.completion_frame,  # type: ignore[arg-type]
    )
    print(f"report: {printable(str(page), kept='')} ({page.stat().st_size / 2**20:.1f} MB)")
    return 0
