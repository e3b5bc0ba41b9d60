"""What a page says of how its run was made, and the names of runs that are compared."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["made_of", "page_of", "run_names", "run_record", "warnings_of"]


def run_names(run_dir: Path, compare: Path | None) -> tuple[str, str | None]:
    """Return the shortest names that differ between the two runs."""
    first = run_dir.resolve()
    if compare is None:
        return first.name, None
    second = compare.resolve()
    if first.name != second.name:
        return first.name, second.name
    return f"{first.parent.name}/{first.name}", f"{second.parent.name}/{second.name}"


def page_of(run_dir: Path, compare: str | Path | None) -> Path:
    """Return the page of a run, or its page next to another run, which leaves the run's own page as it is."""
    return run_dir / ("report.html" if compare is None else "compared.html")


def run_record(run_dir: Path) -> Mapping[str, Any]:
    """Return what `run.json` says about how the run was made; empty without one."""
    try:
        record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a page without this part is still a page
        return {}
    return record if isinstance(record, dict) else {}


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Return what the run was warned of, in the order of its steps."""
    said = record.get("warnings")
    return [f"Warning: {text}" for text in said.values()] if isinstance(said, dict) else []


def made_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how the run was made: its command, its beginning, the versions and the code."""
    command = record.get("command")
    lines = [("command", " ".join(map(str, command)) if isinstance(command, list) else "")]
    lines.append(("started", str(record.get("started") or "")))
    versions = record.get("versions")
    if isinstance(versions, dict):
        lines.append(("versions", ", ".join(f"{name} {number}" for name, number in versions.items())))
    git = record.get("git")
    if isinstance(git, dict):
        lines.append(("code", f"{git.get('commit')}{' with changes' if git.get('dirty') else ''}"))
    return [(term, text) for term, text in lines if text]
