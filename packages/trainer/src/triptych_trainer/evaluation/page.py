"""The page of ``triptych eval``: every mean with its interval as a bar, and the rows behind it; no scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from triptych_trainer.evaluation.scores import Mean, ScoredRow

__all__ = ["evaluation_page"]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bar: #2b7a78; --bar2: #c06c2b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.scale { position: relative; height: .9rem; background: var(--soft); border-radius: .2rem; min-width: 12rem; }
.scale i { position: absolute; top: .3rem; height: .3rem; background: var(--bar); opacity: .45; border-radius: .2rem; }
.scale b { position: absolute; top: 0; width: .2rem; height: .9rem; background: var(--bar); }
.base i, .base b { background: var(--bar2); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.45 ui-monospace, monospace; }
details { margin-top: 1rem; }
"""
SHOWN_ROWS = 500


def evaluation_page(
    path: Path,
    scored: Mapping[str, Sequence[ScoredRow]],
    sliced: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mean | None]]]],
    *,
    title: str,
) -> None:
    """Write one self-contained page; rows whose answer the model got wrong come first."""
    rewards = list(scored["model"][0].scores) if scored["model"] else []
    sections = [_slices(reward, sliced) for reward in rewards]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Triptych evaluation</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{''.join(sections)}{_rows(scored, rewards)}</main></body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _slices(reward: str, sliced: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mean | None]]]]) -> str:
    lines = []
    for slicing, slices in sliced["model"].items():
        for key in slices:
            label = "all rows" if slicing == "all" else f"{slicing} = {key}"
            for run, slicings in sliced.items():
                mean = slicings.get(slicing, {}).get(key, {}).get(reward)
                lines.append(_line(label, run, mean, several=len(sliced) > 1))
    return f"<section><h2>{escape(reward)}</h2>{_filled(('slice', 'rows', 'mean', '95 % interval'), lines)}</section>"


def _filled(heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _line(label: str, run: str, mean: Mean | None, *, several: bool) -> str:
    name = f"{label}, {run}" if several else label
    head = f"<tr><th scope='row'>{escape(name)}</th>"
    if mean is None:
        return f"{head}<td class='number'>0</td><td class='number'>-</td><td></td></tr>"
    left, right = (100 * min(max(value, 0.0), 1.0) for value in (mean.low, mean.high))
    at = 100 * min(max(mean.mean, 0.0), 1.0)
    bar = f"<i style='left:{left:.2f}%;width:{right - left:.2f}%'></i><b style='left:calc({at:.2f}% - .1rem)'></b>"
    interval = f"{mean.low:.3f} to {mean.high:.3f}"
    return (
        f"{head}<td class='number'>{mean.num_rows}</td><td class='number'>{mean.mean:.3f}</td><td>"
        f"<div class='scale {escape(run)}' role='img' aria-label='{interval}' title='{interval}'>{bar}</div></td></tr>"
    )


def _rows(scored: Mapping[str, Sequence[ScoredRow]], rewards: Sequence[str]) -> str:
    if not rewards:
        return ""
    beside = {row.source + row.example_id: row for row in scored.get("base", ())}
    ordered = sorted(scored["model"], key=lambda row: row.scores[rewards[0]] or 0.0)[:SHOWN_ROWS]
    lines = []
    for row in ordered:
        other = beside.get(row.source + row.example_id)
        said = escape("\n".join(row.completions))
        base = f"<td><pre>{escape(chr(10).join(other.completions))}</pre></td>" if other else ""
        scores = " ".join(f"{escape(name)} {_number(value)}" for name, value in row.scores.items())
        lines.append(
            f"<tr><th scope='row'>{escape(row.example_id)}<br><small>{escape(row.source)}</small></th>"
            f"<td class='number'>{row.num_images}</td><td>{escape(str(row.columns.get('answer')))}</td>"
            f"<td><pre>{said}</pre></td>{base}<td>{scores}</td></tr>"
        )
    heads = ["row", "images", "answer", "model said", *(["base said"] if beside else []), "scores"]
    count = f"{len(ordered)} of {len(scored['model'])}"
    return f"<section><h2>Rows, lowest {escape(rewards[0])} first ({count})</h2>{_filled(heads, lines)}</section>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
