"""`python -m triptych_data check FILE...`"""

from __future__ import annotations

import sys

from triptych_data.check_options import parser


def main(arguments: list[str]) -> int:
    """Run the one command of this package, or print its help without what it needs to run."""
    if arguments[:1] != ["check"]:
        print("usage: triptych-data check FILE...", file=sys.stderr)
        return 2
    if "-h" in arguments or "--help" in arguments:
        parser().print_help()
        return 0
    from triptych_data.check import main as check

    return check(arguments[1:])


def script() -> int:
    """Run `triptych-data ...` with the words of the process's command line."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
