"""The means of an evaluation as HTML tables: every interval is a bar, and every difference has its own zero line."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from triptych_trainer.evaluation.paired import Difference
from triptych_trainer.evaluation.scores import Mean

__all__ = ["Differences", "Slices", "change_in_words", "table_html"]

Slices = Mapping[str, Mapping[str, Mapping[str, Mean | None]]]
Differences = Mapping[str, Mapping[str, Mapping[str, Difference | None]]]
WIDTH, HEIGHT = 200, 14


def table_html(reward: str, sliced: Mapping[str, Slices], paired: Differences | None, *, num_rows: int) -> str:
    """Return one reward's table: a row for each slice, whose name filters the rows of the page."""
    low, high = _range(reward, sliced)
    lines = []
    for slicing, slices in sliced["model"].items():
        for key in slices:
            cells = [_mean(of.get(slicing, {}).get(key, {}).get(reward), run, low, high) for run, of in sliced.items()]
            if paired is not None:
                cells.append(_difference(paired.get(slicing, {}).get(key, {}).get(reward)))
            found = slices[key].get(reward)
            lines.append(_line(slicing, key, found.num_rows if found else 0, cells))
    heads = ["slice", "rows", *(f"{run} (95 % interval)" for run in sliced)]
    heads += ["model − base, paired"] if paired is not None else []
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    caption = f"{escape(reward)}, mean over {num_rows} rows; bars from {low:g} to {high:g}"
    return (
        f'<table class="slices"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def change_in_words(change: Difference) -> str:
    """Say what a paired difference means, in words, for readers who are not used to intervals."""
    if change.low is None or change.high is None:
        return f"{change.mean:+.3f} against the base on one row, which says nothing about others"
    numbers = f"{change.mean:+.3f} (95 % interval {change.low:+.3f} to {change.high:+.3f})"
    counts = f"{change.improved} of {change.num_rows} rows better, {change.regressed} worse"
    if change.is_clear:
        return f"{'better' if change.mean > 0 else 'worse'} than the base by {numbers}; {counts}"
    return f"no clear difference from the base, {numbers}; {counts}"


def _line(slicing: str, key: str, num_rows: int, cells: Iterable[str]) -> str:
    label = "all rows" if slicing == "all" else f"{slicing} = {key}"
    name = (
        f'<button type="button" class="slice" data-slicing="{escape(slicing)}" data-slice="{escape(key)}">'
        f"{escape(label)}</button>"
    )
    return f'<tr><th scope="row">{name}</th><td>{num_rows}</td>{"".join(cells)}</tr>'


def _mean(found: Mean | None, run: str, low: float, high: float) -> str:
    if found is None:
        return "<td>–</td>"
    if found.low is None or found.high is None:
        return f"<td>{found.mean:.3f} (one row)</td>"
    places = [
        WIDTH * (min(max(value, low), high) - low) / (high - low) for value in (found.low, found.high, found.mean)
    ]
    words = f"{found.mean:.3f} ({found.low:.2f} to {found.high:.2f})"
    return f"<td>{words}{_bar(places, words, kind=escape(run))}</td>"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "<td>–</td>"
    if found.low is None or found.high is None:
        return f"<td>{found.mean:+.3f} (one row)</td>"
    reach = max(abs(found.low), abs(found.high), 1.0)
    places = [WIDTH * (value + reach) / (2 * reach) for value in (found.low, found.high, found.mean)]
    words = f"{found.mean:+.3f} ({found.low:+.2f} to {found.high:+.2f})"
    kind = "unclear" if not found.is_clear else "up" if found.mean > 0 else "down"
    zero = f'<line class="zero" x1="{WIDTH / 2}" x2="{WIDTH / 2}" y1="0" y2="{HEIGHT}"/>'
    title = f"{found.improved} rows better, {found.regressed} worse"
    return f'<td title="{title}"><span class="{kind}">{words}</span>{_bar(places, words, kind=kind, extra=zero)}</td>'


def _bar(places: Sequence[float], words: str, *, kind: str, extra: str = "") -> str:
    left, right, at = places
    return (
        f'<svg class="bar {kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
        f'<rect class="track" width="{WIDTH}" height="{HEIGHT}" rx="3"/>{extra}'
        f'<rect class="interval" x="{left:.1f}" y="5" width="{max(right - left, 1):.1f}" height="4" rx="2"/>'
        f'<rect class="mean" x="{min(max(at - 1.5, 0), WIDTH - 3):.1f}" y="0" width="3" height="{HEIGHT}"/></svg>'
    )


def _range(reward: str, sliced: Mapping[str, Slices]) -> tuple[float, float]:
    ends = [
        value
        for of in sliced.values()
        for slices in of.values()
        for cells in slices.values()
        if (found := cells.get(reward)) is not None
        for value in (found.low, found.high)
        if value is not None
    ]
    return min([0.0, *ends]), max([1.0, *ends])
