"""Rollouts of a run: recorded as parquet parts, shown as one self-contained page."""

from triptych_trainer.report.build import build_report
from triptych_trainer.report.command import main
from triptych_trainer.report.reading import ReportError
from triptych_trainer.report.rollout import RolloutGroup, RolloutImage
from triptych_trainer.report.writer import RolloutWriter

__all__ = ["ReportError", "RolloutGroup", "RolloutImage", "RolloutWriter", "build_report", "main"]
