"""The difference between vLLM and the trained model, as a run has logged it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_trainer.report.logged import log_history
from triptych_trainer.report.summary import Curve

__all__ = ["mismatch_curves"]

NAME = "sampling/mismatch_kl"
BY_IMAGES = f"{NAME}/images_"


def mismatch_curves(run_dir: Path) -> list[Curve]:
    """Return `mismatch_kl` over all prompts, and by the number of images if that differs; empty for runs without vLLM.

    It is read from the state in the run's folder, or in its newest checkpoint while the run goes on.
    """
    lines = [line for line in log_history(run_dir) if NAME in line]
    numbers = sorted(
        {int(name.removeprefix(BY_IMAGES)) for line in lines for name in line if name.startswith(BY_IMAGES)}
    )
    curves = [_curve(lines, NAME, "all prompts")]
    if len(numbers) > 1:
        curves += [_curve(lines, f"{BY_IMAGES}{number}", _words(number)) for number in numbers]
    return [curve for curve in curves if curve.steps]


def _curve(lines: Sequence[Mapping[str, Any]], name: str, label: str) -> Curve:
    """A step is logged when it is done, and counted from 0 in rollouts."""
    found = [(int(line["step"]) - 1, float(line[name])) for line in lines if name in line]
    return Curve(name=label, mode="train", steps=[step for step, _ in found], values=[value for _, value in found])


def _words(number: int) -> str:
    return "no image" if number == 0 else f"{number} image{'s' * (number != 1)}"
