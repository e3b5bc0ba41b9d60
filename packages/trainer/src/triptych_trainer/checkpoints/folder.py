"""Checkpoint folders that are whole or absent: written aside, forced to disk, listed in a manifest, then renamed."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from triptych_parser import Refusal

from triptych_trainer.checkpoints.digests import digests

__all__ = [
    "CheckpointError",
    "check_whole",
    "checkpoints",
    "defect",
    "latest_checkpoint",
    "manifest_of",
    "name_aside",
    "publish",
    "remove_unfinished",
    "rotate",
    "run_id_of",
    "seal",
    "step_of",
    "sync_all",
]

MANIFEST = "checkpoint.json"
UNFINISHED = ".unfinished-"
NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(Refusal, RuntimeError):
    """Says that a checkpoint could not be written, or that a checkpoint to go on from is not whole."""


def checkpoints(output: Path) -> list[Path]:
    """Return the checkpoint folders of a run, newest first."""
    if not output.is_dir():
        return []
    found = [path for path in output.iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """Return the step in the name of a checkpoint folder."""
    return int(folder.name.split("-")[1])


def latest_checkpoint(output: Path, *, run: str | None = None) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint of a run, and one sentence for each newer one that is passed over.

    ``run`` is the id of the run; without it, checkpoints of any run count.
    """
    skipped: list[str] = []
    for folder in checkpoints(output):
        found, owner = defect(folder), run_id_of(folder)
        if found is not None:
            skipped.append(f"{folder.name} is not whole and is passed over: {found}")
        elif run is not None and owner not in (None, run):
            skipped.append(f"{folder.name} belongs to run {owner}, not to run {run} of this folder, and is passed over")
        else:
            return folder, skipped
    return None, skipped


def manifest_of(folder: Path) -> Mapping[str, Any]:
    """Return the content of a checkpoint's manifest.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {**content, "files": {str(name): dict(entry) for name, entry in content["files"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its {MANIFEST} cannot be read ({type(error).__name__})") from error


def run_id_of(folder: Path) -> str | None:
    """Return the id of the run that wrote a checkpoint, or None if its manifest does not name one."""
    try:
        run = manifest_of(folder).get("run")
    except (OSError, ValueError):
        return None
    return run.get("id") if isinstance(run, dict) else None


def defect(folder: Path, *, deep: bool = True) -> str | None:
    """Return the reason why a run cannot go on from a checkpoint, or None for a whole one. ``deep`` also compares
    digests.
    """
    try:
        files = manifest_of(folder)["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}, which is written last"
    except (OSError, ValueError) as error:
        return str(error)
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry.get("bytes"):
            return f"{name} has {path.stat().st_size} bytes, {entry.get('bytes')} were written"
    return _changed(folder, files) if deep else None


def _changed(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    try:
        found = digests([folder / name for name in files])
    except OSError as error:
        return f"a file cannot be read ({error})"
    for (name, entry), digest in zip(files.items(), found, strict=True):
        if digest != entry.get("digest"):
            return f"{name} has the size that was written, but not the bytes: its digest differs from the manifest's"
    return None


def name_aside(step: int) -> str:
    """Return a folder name for a save that is not finished, unlike that of any other save."""
    return f"{UNFINISHED}{step}-{uuid.uuid4().hex[:8]}"


def check_whole(folder: Path, *, deep: bool = True) -> None:
    """Check a checkpoint that a user names; one that another tool wrote has no manifest and is taken as it is.

    Without ``deep`` only the names and sizes of its files are compared.

    Raises:
        CheckpointError: a file of the manifest is missing, or has another size or other bytes.
    """
    found = defect(folder, deep=deep)
    if found is not None and (folder / MANIFEST).exists():
        raise CheckpointError(
            f"--resume_from_checkpoint {folder}: {found}; name another one, or take the newest whole one with "
            "--resume_from_checkpoint latest"
        )


def failure_of_save(output: Path, *, step: int, error: Exception | None) -> str:
    """Return what a user reads when a checkpoint cannot be written: why, and what is there to go on from."""
    cause = " ".join(str(error).split()) if error is not None else "another rank could not write its part"
    found = next((folder for folder in checkpoints(output) if defect(folder, deep=False) is None), None)
    kept = f"{found.name} is whole" if found else "there is no earlier one"
    needed = sum(path.stat().st_size for path in found.rglob("*") if path.is_file()) if found else 0
    size = f" and takes {needed / 2**20:.0f} MiB" if found else ""
    return (
        f"checkpoint-{step} cannot be written to {output}, which has {shutil.disk_usage(output).free / 2**20:.0f} MiB "
        f"free: {cause}; {kept}{size}. Make room (--save_total_limit keeps fewer), "
        "then go on with --resume_from_checkpoint latest"
    )


def seal(folder: Path, *, step: int, num_ranks: int, run: Mapping[str, Any] | None = None) -> None:
    """Force every file of a finished folder to disk, and list them in its manifest, which is written last.

    The manifest contains the step, the number of ranks, the run (its id and what it was started with; see ``Run``) and
    the size and digest of each file.
    """
    paths = sync_all(folder)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "digest": digest}
        for path, digest in zip(paths, digests(paths), strict=True)
    }
    manifest = folder / MANIFEST
    content = {"step": step, "num_ranks": num_ranks, "run": run, "files": files}
    manifest.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def sync_all(folder: Path) -> list[Path]:
    """Force every file of a folder to disk, and the folders that name them; returns the files in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in (*paths, *{folder, *(path.parent for path in paths)}):
        _sync(path)
    return paths


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


def rotate(output: Path, *, limit: int | None, run: str | None, keep: Collection[Path] = ()) -> None:
    """Remove the oldest checkpoints of a run beyond ``limit``; the newest, those to ``keep`` and other runs' remain.

    transformers would take any folder whose name begins with ``checkpoint-``, in the order of their times.
    """
    if not limit or limit < 1:
        return
    own = [folder for folder in checkpoints(output) if run is None or run_id_of(folder) in (None, run)]
    kept = {path.absolute() for path in (*own[:1], *keep)}
    others = [folder for folder in own if folder.absolute() not in kept]
    for folder in others[max(0, limit - len(kept)) :]:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
