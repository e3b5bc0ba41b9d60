"""``triptych plan``: memory, steps and hours of a run, before anything is loaded on a GPU."""

from triptych_trainer.plan.command import main

__all__ = ["main"]
