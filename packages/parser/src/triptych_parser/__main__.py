"""`python -m triptych_parser FILE.jsonl ...`: print every record whose markers and images do not fit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych_parser.check import check_file
from triptych_parser.dialects import DIALECTS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the files; 0 when every record is right, 1 when one is not, 2 when a file cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m triptych_parser", description="Check image markers in JSONL files."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--dialect", choices=list(DIALECTS), default="image", help="how markers are written")
    parser.add_argument(
        "--no-markers",
        choices=["auto", "error", "first"],
        default="auto",
        help="what images without any marker mean: an error, or all of them first (auto: first for VLM-R1 files)",
    )
    options = parser.parse_args(arguments)
    records = wrong = 0
    for path in options.files:
        try:
            for error in check_file(path, dialect=options.dialect, no_markers=options.no_markers):
                records += 1
                if error is not None:
                    wrong += 1
                    print(error)
        except OSError as error:
            print(f"{path}: cannot be read: {error.strerror}", file=sys.stderr)
            return 2
    print(f"{wrong} of {records} records have errors" if wrong else f"{records} records, no errors")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
