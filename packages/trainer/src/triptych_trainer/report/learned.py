"""The page of a run that samples nothing (``triptych sft``): its curves, and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_data.pages import rendered_page
from triptych_data.write_whole import write_whole

from triptych_trainer.report.curves import Panel, panel_html, series_of
from triptych_trainer.report.logged import log_history
from triptych_trainer.report.run_facts import made_of, page_of, run_names, run_record, warnings_of
from triptych_trainer.report.summary import Curve
from triptych_trainer.rollouts.parts import ReportError

__all__ = ["build_learned_report", "is_learned"]

Lines = Sequence[Mapping[str, Any]]
PANELS = (
    ("loss", "Loss", "Mean over the trained tokens of a step."),
    ("grad_norm", "Gradient norm", "Before it is clipped."),
    ("entropy", "Entropy", "Of the next token, mean over the trained tokens."),
    ("learning_rate", "Learning rate", "Of the next step."),
    ("num_tokens", "Tokens", "Seen since the run began, without pads."),
)
"""The names of TRL's log, each with the title and the explanation of its panel."""


def is_learned(run_dir: Path) -> bool:
    """Return whether a folder is that of a run that has logged losses and no rewards."""
    lines = log_history(run_dir)
    return any("loss" in line for line in lines) and not any("reward" in line for line in lines)


def build_learned_report(run_dir: str | Path, out: str | Path | None = None, *, compare: Path | None = None) -> Path:
    """Write the page and return its path; ``compare`` is a second run, drawn next to the first, on a page of its own.

    Raises:
        ReportError: a run has logged nothing yet.
    """
    run_dir = Path(run_dir)
    out = page_of(run_dir, compare) if out is None else Path(out)
    own, other = _lines(run_dir), [] if compare is None else _lines(compare)
    names, record = run_names(run_dir, compare), run_record(run_dir)
    found = [
        Panel(key=name, title=title, explanation=text, series=series)
        for name, title, text in PANELS
        if (series := series_of(_curves(own, name), _curves(other, name), names=names))
    ]
    pieces = rendered_page(
        "triptych_trainer.report",
        "learned",
        look="report",
        title=names[0] if names[1] is None else f"{names[0]} against {names[1]}",
        facts=_facts(own),
        warnings=warnings_of(record),
        made=made_of(record),
        panels=[panel_html(panel) for panel in found],
    )
    write_whole(out, "".join(pieces).encode("utf-8"))
    return out


def _lines(run_dir: Path) -> Lines:
    lines = log_history(run_dir)
    if not any("loss" in line for line in lines):
        raise ReportError(f"{run_dir}: no trainer_state.json with a logged loss here; name the folder of a run")
    return lines


def _curves(lines: Lines, name: str) -> list[Curve]:
    """The curve of training, and that of held-out rows where they were looked at."""
    found = [_curve(lines, name, "train"), _curve(lines, f"eval_{name}", "eval") if name == "loss" else None]
    return [curve for curve in found if curve is not None and curve.steps]


def _curve(lines: Lines, name: str, mode: str) -> Curve:
    points = [(int(line["step"]), float(line[name])) for line in lines if name in line]
    return Curve(name="loss", mode=mode, steps=[step for step, _ in points], values=[value for _, value in points])


def _facts(lines: Lines) -> list[tuple[str, str]]:
    """The run's numbers in words for the top of the page."""
    trained = [line for line in lines if "loss" in line]
    held_out = [float(line["eval_loss"]) for line in lines if "eval_loss" in line]
    facts = [("steps", f"{trained[-1]['step']:,}"), ("epochs", f"{trained[-1].get('epoch', 0):.2f}")]
    if "num_tokens" in trained[-1]:
        facts.append(("tokens", f"{int(trained[-1]['num_tokens']):,}"))
    facts.append(("loss", f"{trained[0]['loss']:.3g} \u2192 {trained[-1]['loss']:.3g}"))
    if held_out:
        facts.append(("lowest loss of held-out rows", f"{min(held_out):.3g}"))
    return facts
