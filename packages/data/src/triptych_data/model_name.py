"""The names of models: folders of this machine, and hub ids."""

from __future__ import annotations

import re
from pathlib import Path

from triptych_data.errors import UsageError

__all__ = ["check_model_name", "check_revision"]

HUB_ID = re.compile(r"\w[\w.\-]*/[\w.\-]+")


def check_model_name(path: str, *, option: str) -> None:
    """Check that a name is a folder that is there, or can be a hub id, before the hub is asked for it.

    UsageError: it is neither.
    """
    if not path:
        raise UsageError(f"{option} expects a folder or a hub id, got nothing")
    if Path(path).is_dir() or HUB_ID.fullmatch(path):
        return
    raise UsageError(
        f"{option} {path}: no such folder (looked from {Path.cwd()}); correct the path, or give a hub id, which has "
        "the form owner/name"
    )


def check_revision(path: str | None, revision: str | None) -> None:
    """Check that `--model_revision` is given for a hub id only, since a folder of this machine has one state.

    UsageError: the model is a folder, or there is none.
    """
    if revision is not None and (path is None or Path(path).is_dir()):
        raise UsageError(
            f"--model_revision {revision} is read by nothing here; name a model of the hub, or leave it out"
        )
