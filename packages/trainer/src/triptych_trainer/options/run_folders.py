"""Whether the folders that a run is given can be used; importing it loads nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from triptych_trainer.errors import UsageError

__all__ = ["NEWEST", "check_checkpoint_folder", "check_output_folder"]

NEWEST = ("latest", "true")
"""The words of ``--resume_from_checkpoint`` that stand for the newest checkpoint."""


def check_output_folder(folder: str | Path) -> None:
    """Check that the output folder can be written, without making it.

    Raises:
        UsageError: names the part of the path that is in the way.
    """
    if folder == "":
        raise UsageError("--output_dir expects a name, got nothing")
    folder = Path(folder)
    existing = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not existing.is_dir():
        raise UsageError(f"--output_dir {folder}: {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--output_dir {folder}: {existing} cannot be written; name a folder that you may write to")


def check_checkpoint_folder(asked: str | bool) -> None:
    """Check that the folder that ``--resume_from_checkpoint`` names is there.

    Raises:
        UsageError: it is not, or the name is empty.
    """
    if asked == "":
        raise UsageError(
            "--resume_from_checkpoint: expected a folder or `latest`, got an empty text; leave out the option to begin "
            "a new run"
        )
    if str(asked).lower() not in (*NEWEST, "false") and not Path(str(asked)).is_dir():
        raise UsageError(
            f"--resume_from_checkpoint {asked}: no such folder; --resume_from_checkpoint latest takes "
            "the newest of the output"
        )
