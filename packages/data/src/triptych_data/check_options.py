"""What `check` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.shared_options import add_shared_options


@dataclass(kw_only=True)
class CheckOptions:
    """Contains the options that `check` takes in addition to those that every command shares."""

    LEAST: ClassVar[dict[str, int]] = {"workers": 1, "show": 0}

    decode: bool = field(
        default=True, metadata={"help": "decode every image once; without it only headers are read, which is faster"}
    )
    workers: int = field(default_factory=lambda: default_workers(), metadata={"help": "processes that look at rows"})
    show: int = field(default=5, metadata={"help": "refused rows printed per kind"})
    json: str | None = field(default=None, metadata={"metavar": "OUT", "help": "write the whole report here"})
    fix: str | None = field(
        default=None, metadata={"metavar": "OUT", "help": "write the rows that pass here, as they were read (JSONL)"}
    )


def parser(prog: str = "triptych-data check") -> OptionParser:
    """Return the parser of the command with this name."""
    made = OptionParser(
        prog=prog,
        usage=f"{prog} FILE ... [options]",
        description="Check dataset files before a run: what passes here with the options of the run, the run takes.",
        epilog="It ends with 0 when a run would take the rows, 1 when it would stop at one, 2 when it cannot check.",
    )
    made.add_argument("files", nargs="*", metavar="FILE", help="data files; the same as --data")
    add_shared_options(made)
    add_options(made, CheckOptions, title="the check")
    return made


def default_workers() -> int:
    """Return the cores that this process may use, at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
