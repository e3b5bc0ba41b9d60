"""Rollouts of a run: recorded as parquet parts, shown as one self-contained page."""

from triptych_trainer.report.build import build_report

__all__ = ["build_report"]
