"""`triptych report RUN_DIR`: build the page of a run's rollouts again."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.report.build import MAX_GROUPS, build_report
from triptych_trainer.rewards.boxes import FRAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="triptych report", description="Build one self-contained page from the rollouts of a run."
    )
    parser.add_argument("run_dir", type=Path, help="output folder of a run, finished or not")
    parser.add_argument("--compare", type=Path, metavar="RUN_DIR", help="a second run to show beside it")
    parser.add_argument("-o", "--out", type=Path, help="page to write (default: RUN_DIR/report.html)")
    parser.add_argument(
        "--max_groups", type=int, default=MAX_GROUPS, help="groups shown in full (default: %(default)s)"
    )
    parser.add_argument(
        "--max_image_mb", type=float, default=24, help="embedded thumbnails, in MB (default: %(default)s)"
    )
    for side, what in (("answer", "answers"), ("completion", "completions")):
        parser.add_argument(
            f"--{side}_frame", choices=FRAMES, default="seen", help=f"coordinates of boxes in {what} (default: seen)"
        )
    options = parser.parse_args(argv)
    return outcome("triptych report", lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    page = build_report(
        options.run_dir,
        options.out,
        compare=options.compare,
        max_groups=options.max_groups,
        max_image_bytes=int(options.max_image_mb * 2**20),
        answer_frame=options.answer_frame,
        completion_frame=options.completion_frame,
    )
    print(f"report: {page} ({page.stat().st_size / 2**20:.1f} MB)")
    return 0
