"""What ``triptych report`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.option_parser import OptionParser, add_options, given_path

from triptych_trainer.options.page_options import PageOptions

__all__ = ["ReportOptions", "parser"]


@dataclass(kw_only=True)
class ReportOptions(PageOptions):
    """Contains the options that ``report`` takes in addition to the folder."""

    LEAST: ClassVar[Mapping[str, int]] = {"max_groups": 1, "max_image_mb": 0}

    compare: str | None = field(default=None, metadata={"metavar": "RUN_DIR", "help": "a second run next to it"})
    max_groups: int = field(default=2000, metadata={"help": "groups shown in full"})
    max_image_mb: float = field(default=24, metadata={"help": "the most that embedded thumbnails may take, in MB"})


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych report",
        usage="triptych report RUN_DIR [options]",
        description="Build one self-contained page from the rollouts of a run.",
    )
    made.add_argument("run_dir", type=given_path, metavar="RUN_DIR", help="output folder of a run, finished or not")
    made.add_argument(
        "-o",
        "--out",
        type=given_path,
        metavar="PAGE",
        help="page to write (default: RUN_DIR/report.html; with --compare RUN_DIR/compared.html)",
    )
    add_options(made, ReportOptions, title="the page")
    return made
