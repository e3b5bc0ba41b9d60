"""The table of docs/families.md of all types without an adapter of their own, read and written."""

from __future__ import annotations

from collections.abc import Mapping

from .table import DOCUMENT

BEGIN, END = "<!-- verdicts: written by make families -->", "<!-- end of the verdicts -->"
Verdict = tuple[str, str]
"""Exact, refused or a text model; and the models' names, or why."""


def stated_verdicts() -> dict[str, Verdict]:
    """Read the verdict of each model type."""
    table = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {model_type.strip("`"): (verdict, why) for model_type, verdict, why in rows}


def write_verdicts(found: Mapping[str, Verdict]) -> None:
    """Replace the table; types that the installed transformers does not know keep their rows."""
    rows = sorted({**stated_verdicts(), **found}.items())
    lines = ["| model type | verdict | models, or why |", "|---|---|---|"]
    lines += [f"| `{model_type}` | {verdict} | {why} |" for model_type, (verdict, why) in rows]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")
