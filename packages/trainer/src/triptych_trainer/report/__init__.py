"""Rollouts of a run: recorded as parquet parts, shown as one self-contained page."""

from triptych_trainer.report.build import build_report
from triptych_trainer.rollouts.read import ReportError
from triptych_trainer.rollouts.record import GroupRecord, ImageRecord
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["GroupRecord", "ImageRecord", "ReportError", "RolloutWriter", "build_report"]
