"""``triptych env``: versions and machine, to paste into a bug report."""

from collections.abc import Sequence

from triptych_data.option_parser import OptionParser

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.monitor.versions import installed_versions, machine

__all__ = ["main", "parser"]


def parser() -> OptionParser:
    """Return the command's parser, which takes nothing."""
    return OptionParser(
        prog="triptych env", description="Print the versions of Triptych and of what it works with, for a bug report."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line for each; nothing is imported for it."""
    return outcome("triptych env", lambda: _env(argv))


def _env(argv: Sequence[str] | None) -> int:
    parser().parse_args(argv)
    for name, value in {**machine(), **installed_versions()}.items():
        print(f"{name:<18} {value}")
    return 0
