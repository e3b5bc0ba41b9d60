"""Whether what a command is to write has a place of its own; importing it loads nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triptych_data.options import QUARANTINE
from triptych_data.write_whole import check_target

from triptych_trainer.errors import UsageError
from triptych_trainer.monitor.run_record import RECORD

__all__ = ["check_kept_target", "check_new_folder"]


def check_new_folder(out: Path) -> None:
    """Check that ``--out`` names no folder with files in it; raises UsageError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: expected a new folder, got one that contains files; name another")


def check_kept_target(target: str, out: Path | None, *, read: Sequence[str | Path]) -> None:
    """Check that ``--keep_mixed`` names neither what is read nor what ``--out`` contains; raises UsageError."""
    check_target(Path(target), option="--keep_mixed", read=read, others={"--out": out})
    if out is not None:
        for name in (RECORD, "config.yaml", "report.html", QUARANTINE):
            check_target(Path(target), option="--keep_mixed", others={"--out": out / name})
