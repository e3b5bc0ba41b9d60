"""What `preview` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from triptych_data.check_options import default_workers
from triptych_data.limit import LIMIT
from triptych_data.option_parser import OptionParser, add_options, given_path
from triptych_data.shared_options import add_shared_options


@dataclass(kw_only=True)
class PreviewOptions:
    """Contains the options that `preview` takes in addition to those that every command shares."""

    LEAST: ClassVar[dict[str, int]] = {"limit": 0, "max_megabytes": 0, "threads": 1}

    limit: int = field(default=10_000, metadata=LIMIT)
    max_megabytes: float = field(default=64, metadata={"help": "the most that embedded pictures may take"})
    threads: int = field(default_factory=default_workers, metadata={"help": "threads that decode pictures"})
    quiet: bool = field(default=False, metadata={"help": "print only the last line"})


def parser(prog: str = "triptych-data preview") -> OptionParser:
    """Return the parser of the command with this name."""
    made = OptionParser(
        prog=prog,
        usage=f"{prog} FILE ... [options]",
        description="Write one self-contained page that shows a dataset's prompts as a model gets them.",
        epilog="It ends with 0 when every row passes, 1 when a run would refuse some, 2 when there is no page.",
    )
    made.add_argument("files", nargs="*", metavar="FILE", help="data files; the same as --data")
    add_shared_options(made)
    add_options(made, PreviewOptions, title="the page")
    made.add_argument(
        "-o",
        "--out",
        type=given_path,
        default=Path("preview.html"),
        metavar="PAGE",
        help="page to write (preview.html)",
    )
    return made
