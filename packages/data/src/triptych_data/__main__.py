"""`triptych-data check FILE...` and `triptych-data preview FILE...`: a dataset looked at without the trainer."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

from triptych_data.option_parser import nearest

COMMANDS = {
    "check": ("triptych_data.check", "triptych_data.check_options", "check dataset files before a run"),
    "preview": (
        "triptych_data.preview.command",
        "triptych_data.preview.options",
        "show a dataset's prompts with their images in place, as one page",
    ),
}
"""For each command the module that runs it, the module whose `parser` prints its help, and what it does."""


def main(arguments: list[str]) -> int:
    """Run a command of this package, or print its help without what it needs to run."""
    name, rest = next(iter(arguments), "--help"), arguments[1:]
    if name in ("-h", "--help"):
        print("usage: triptych-data COMMAND ...\n")
        print("\n".join(f"  {name:<8} {what}" for name, (*_, what) in COMMANDS.items()))
        print("\n`triptych-data COMMAND --help` lists the options of a command, `triptych-data --version` the version.")
        return 0 if arguments else 2
    if name in ("-V", "--version"):
        print(f"triptych-data {version('triptych-data')}")
        return 0
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        hint = nearest(name, tuple(COMMANDS))
        print(f"triptych-data: error: there is no command {name!r}{hint}; there are: {known}", file=sys.stderr)
        return 2
    command, options, _ = COMMANDS[name]
    if "-h" in rest or "--help" in rest:
        importlib.import_module(options).parser().print_help()
        return 0
    try:
        return int(importlib.import_module(command).main(rest))
    except KeyboardInterrupt:
        print(f"triptych-data {name}: interrupted", file=sys.stderr)
        return 130


def script() -> int:
    """Run `triptych-data ...` with the words of the process's command line."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
