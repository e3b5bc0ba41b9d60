"""What it takes to repeat a run: command, options, versions, data and code state, in the output folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from triptych_trainer.monitor.versions import installed_versions, machine

if TYPE_CHECKING:
    from triptych_trainer.options.arguments import TrainingConfig

__all__ = ["RECORD", "add_to_record", "read_run_record", "write_command", "write_record"]

RECORD = "run.json"

TOKEN = "_token"


def write_record(
    folder: Path,
    config: TrainingConfig,
    *,
    data: Sequence[Path],
    run_id: str | None = None,
    resumed_from: Path | None = None,
) -> None:
    """Write ``run.json`` (id, command, versions, data fingerprints, git state) and ``config.yaml`` to repeat it.

    A run that goes on keeps what its record says of its result and its warnings. Tokens are left out: both files
    are uploaded with the model by ``--push_to_hub``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_run_record(folder)
    goes_on = run_id is not None and before.get("id") == run_id
    kept = {name: before[name] for name in ("result", "warnings") if goes_on and name in before}
    record = {
        "id": run_id,
        "resumed_from": None if resumed_from is None else str(resumed_from),
        **_made_by(config.command, data),
        **kept,
    }
    _write_json(folder / RECORD, record)
    _write_options(folder, config.options)


def write_command(folder: Path, command: Sequence[str], options: Mapping[str, Any], *, data: Sequence[Path]) -> None:
    """Write the same two files for a command that is no run; ``options`` are those that were given."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / RECORD, _made_by(command, data))
    _write_options(folder, options)


def _made_by(command: Sequence[str], data: Sequence[Path]) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _without_tokens(command),
        **machine(),
        "versions": installed_versions(),
        "data": [_fingerprint(path) for path in data],
        "git": _git_state(),
    }


def _write_options(folder: Path, options: Mapping[str, Any]) -> None:
    plain = {name: list(value) if isinstance(value, list) else value for name, value in options.items()}
    shown = {name: value for name, value in plain.items() if not name.endswith(TOKEN)}
    (folder / "config.yaml").write_text(yaml.safe_dump(shown, sort_keys=True), encoding="utf-8")


def _without_tokens(command: Sequence[str]) -> list[str]:
    """The words of a command line, the values of ``--hub_token`` and its like replaced."""
    words, hide = [], False
    for word in command:
        name, equals, _ = word.partition("=")
        secret = name.startswith("--") and name.replace("-", "_").endswith(TOKEN)
        words.append("***" if hide else f"{name}=***" if secret and equals else word)
        hide = secret and not equals
    return words


def add_to_record(folder: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Add what became known during the run to ``run.json``; a folder without one gets none."""
    if (folder / RECORD).is_file():
        _write_json(folder / RECORD, {**read_run_record(folder), name: dict(entry)})


def read_run_record(folder: Path) -> Mapping[str, Any]:
    """Return the content of ``run.json`` in an output folder; empty if it cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write through a file aside, so that a kill leaves the content before or the content after."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def _fingerprint(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {"path": str(path)}
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _git_state() -> Mapping[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
