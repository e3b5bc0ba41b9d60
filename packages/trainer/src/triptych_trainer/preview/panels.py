"""The summary's panels: bars that filter the rows, and histograms; readable without scripts."""

import math
from collections.abc import Sequence
from html import escape

from triptych_trainer.preview.collecting import REFUSED
from triptych_trainer.preview.summary import Summary, spread
from triptych_trainer.report.curves import ticks

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 150, 44, 22


def panels_html(summary: Summary, *, limits: tuple[int | None, int | None]) -> str:
    """Return all panels; `limits` are those of prompt tokens and of image tokens."""
    counts = [(str(count), f"{count}", rows) for count, rows in sorted(summary.images_per_prompt.items())]
    problems = [(name, name, rows) for name, rows in summary.ordered_problems()]
    found = [
        _panel("problems", "Problems", "Rows that have them; choose one to see them.", _bars("problem", problems))
        if problems
        else _panel("problems", "Problems", "None: every row passes, and nothing is odd.", ""),
        _panel(
            "counts",
            "Images per prompt",
            "Rows with so many images; choose a number to see them.",
            _bars("images", counts),
        ),
    ]
    if summary.tokens:
        found.append(_histogram("tokens", "Tokens per prompt", summary.tokens, limit=limits[0]))
        if summary.images:
            title = "Image tokens per prompt"
            found.append(_histogram("image-tokens", title, summary.image_tokens, limit=limits[1]))
    elif summary.long_sides:
        found.append(
            _histogram("sides", "Longest side of images, pixels", summary.long_sides, limit=None, unit="images")
        )
    return "".join(found)


def bins(values: Sequence[int], *, count: int = 24) -> list[tuple[int, int, int]]:
    """Return (from, below, how many) for at most about `count` intervals of one round whole width."""
    low, high = min(values), max(values) + 1
    rough = max(1.0, (high - low) / count)
    power = 10 ** math.floor(math.log10(rough))
    width = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = low // width
    found = [0] * (-(-high // width) - first)
    for value in values:
        found[value // width - first] += 1
    return [((first + k) * width, (first + k + 1) * width, number) for k, number in enumerate(found)]


def _panel(key: str, title: str, explanation: str, body: str) -> str:
    return (
        f'<section class="panel" id="panel-{key}" aria-labelledby="title-{key}">'
        f'<h3 id="title-{key}">{escape(title)}</h3><p>{escape(explanation)}</p>{body}</section>'
    )


def _bars(filter_name: str, bars: Sequence[tuple[str, str, int]]) -> str:
    """Return buttons with a bar each: (value to filter by, label, number of rows)."""
    if not bars:
        return ""
    most = max(rows for _, _, rows in bars)
    items = [
        f'<li><button type="button" class="bar{" bad" if label.startswith(REFUSED) else ""}" '
        f'data-filter="{filter_name}" data-value="{escape(value)}">'
        f'<span class="label">{escape(label)}</span>'
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(100 * rows / most, 0.5):.2f}" height="10"/></svg>'
        f'<span class="rows">{rows:,}</span></button></li>'
        for value, label, rows in bars
    ]
    return f'<ul class="bars">{"".join(items)}</ul>'


def _histogram(key: str, title: str, values: Sequence[int], *, limit: int | None, unit: str = "rows") -> str:
    found = bins(values)
    low, high = found[0][0], max(found[-1][1], (limit or 0) + 1)
    most = max(rows for _, _, rows in found)
    bottom = HEIGHT - BOTTOM
    middle = 0.5 if found[0][1] - found[0][0] == 1 else 0.0  # a bar for one number has it in its middle

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (value - low) / (high - low)

    bars = "".join(
        f'<rect class="{"over" if limit is not None and start > limit else "in"}" x="{x(start):.1f}" '
        f'y="{bottom - (bottom - 10) * rows / most:.1f}" width="{max(x(stop) - x(start) - 1, 1):.1f}" '
        f'height="{(bottom - 10) * rows / most:.1f}"><title>{_interval(start, stop)}: {rows:,} {unit}</title></rect>'
        for start, stop, rows in found
        if rows
    )
    labels = "".join(
        f'<text class="tick" x="{x(edge + middle):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{edge:,.0f}</text>'
        for edge in ticks(low, high, count=6)
        if low <= edge <= high - middle and edge == int(edge)
    )
    labels += f'<text class="tick" x="{LEFT - 6}" y="16" text-anchor="end">{most:,}</text>'
    base = f'<line class="base" x1="{LEFT}" x2="{WIDTH - 8}" y1="{bottom}" y2="{bottom}"/>'
    words = spread(values)
    if limit is not None:
        over = sum(value > limit for value in values)
        at = x(limit + 2 * middle)
        base += f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{bottom}"/>'
        words += f"; limit {limit:,}, {over:,} over it"
    chart = (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {words}")}">'
        f"{bars}{base}{labels}</svg>"
    )
    return _panel(key, title, words[:1].upper() + words[1:] + ".", chart)


def _interval(start: int, stop: int) -> str:
    return f"{start:,}" if stop - start == 1 else f"{start:,} to {stop - 1:,}"
