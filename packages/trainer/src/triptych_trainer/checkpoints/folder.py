"""Checkpoint folders that are whole or absent: written aside, forced to disk, listed in a manifest, then renamed."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from triptych_parser import Refusal

__all__ = [
    "CheckpointError",
    "check_whole",
    "checkpoints",
    "defect",
    "latest_checkpoint",
    "name_aside",
    "publish",
    "remove_unfinished",
    "seal",
]

MANIFEST = "checkpoint.json"
UNFINISHED = ".unfinished-"
NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(Refusal, RuntimeError):
    """A checkpoint could not be written, or one that a run should go on from is not whole."""


def checkpoints(output: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first."""
    if not output.is_dir():
        return []
    found = [path for path in output.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def latest_checkpoint(output: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run, and one sentence for each newer one that is not."""
    skipped: list[str] = []
    for folder in checkpoints(output):
        found = defect(folder)
        if found is None:
            return folder, skipped
        skipped.append(f"{folder.name} is not whole and is passed over: {found}")
    return None, skipped


def defect(folder: Path) -> str | None:
    """What keeps a checkpoint from being resumed, or None for a whole one."""
    manifest = folder / MANIFEST
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}, which is written last"
    except (ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({type(error).__name__})"
    for name, num_bytes in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != num_bytes:
            return f"{name} has {path.stat().st_size} bytes, {num_bytes} were written"
    return None


def name_aside(step: int) -> str:
    """A folder name for a save that is not finished, unlike that of any other save."""
    return f"{UNFINISHED}{step}-{uuid.uuid4().hex[:8]}"


def check_whole(folder: Path) -> None:
    """Check a checkpoint that a user names; one that another tool wrote has no manifest and is taken as it is.

    Raises:
        CheckpointError: a file of the manifest is missing or has another size.
    """
    found = defect(folder)
    if found is not None and (folder / MANIFEST).exists():
        raise CheckpointError(
            f"--resume_from_checkpoint {folder}: {found}; name another one, or `latest` for the newest whole one"
        )


def seal(folder: Path, *, step: int, num_ranks: int) -> None:
    """Force every file of a finished folder to disk and list them with their sizes in its manifest, the last file."""
    paths = sorted(_files(folder))
    for path in paths:
        _sync(path)
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    manifest = folder / MANIFEST
    content = {"step": step, "num_ranks": num_ranks, "files": files}
    manifest.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _sync(manifest)
    for path in {manifest.parent, *(path.parent for path in paths)}:
        _sync(path)


def publish(folder: Path, *, output: Path) -> Path:
    """Move a sealed folder to its final name below ``output`` in one step; one of that name before it is replaced."""
    final = output / folder.name
    if final.exists():
        final.rename(folder.parent / "replaced")
    folder.rename(final)
    _sync(output)
    return final


def remove_unfinished(output: Path, *, keep: str | None = None) -> None:
    """Clear away what interrupted saves left below ``output``; a checkpoint that only lacked its name gets it."""
    for aside in sorted(output.glob(f"{UNFINISHED}*")):
        if aside.name == keep:
            continue
        for folder in checkpoints(aside):
            if defect(folder) is None and not (output / folder.name).exists():
                publish(folder, output=output)
        shutil.rmtree(aside, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
