"""The files of a run's rollouts, before any is opened."""

from pathlib import Path

from triptych_parser import Refusal

__all__ = ["FOLDER", "ReportError", "rollout_parts"]

FOLDER = "rollouts"


class ReportError(Refusal, ValueError):
    """Says that the rollouts of a run are missing or cannot be read."""


def rollout_parts(run_dir: Path) -> list[Path]:
    """Return the files with rollouts in a run's folder; raises ReportError when there are none."""
    folder = run_dir / FOLDER
    if parts := sorted(folder.glob("step-*.parquet")):
        return parts
    raise ReportError(
        f"{run_dir}: no rollouts in {folder}; expected the output folder of a run that wrote at least one step"
    )
