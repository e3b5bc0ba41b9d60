"""What a run has logged, step by step."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["log_history"]


def log_history(run_dir: Path) -> Sequence[Mapping[str, Any]]:
    """Return the lines that a run has logged: from its folder, or from its newest checkpoint while it goes on."""
    checkpoints = sorted(run_dir.glob("checkpoint-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in (run_dir, *checkpoints):
        try:
            found = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError, KeyError, TypeError):  # a page without this part is still a page
            continue
        return [line for line in found if isinstance(line, dict)]
    return []
