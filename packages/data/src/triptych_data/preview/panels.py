"""The summary's panels: bars that filter the rows, and histograms; readable without scripts."""

import math
from collections.abc import Sequence
from typing import Any

from triptych_data.pages import fragment
from triptych_data.pages.ticks import ticks
from triptych_data.preview.collecting import REFUSED
from triptych_data.preview.summary import Summary, spread

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 150, 44, 22


def panels_html(summary: Summary, *, limits: tuple[int | None, int | None]) -> list[str]:
    """Return the panels; `limits` are those of prompt tokens and of image tokens."""
    counts = [(str(count), f"{count}", rows) for count, rows in sorted(summary.images_per_prompt.items())]
    problems = [(name, name, rows) for name, rows in summary.ordered_problems()]
    said = "Rows that have them; choose one to see them." if problems else "None: every row passes, and nothing is odd."
    found = [
        _bars("problems", "Problems", said, filter_name="problem", bars=problems),
        _bars(
            "counts",
            "Images per prompt",
            "Rows with so many images; choose a number to see them.",
            filter_name="images",
            bars=counts,
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
    return found


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


def _panel(key: str, title: str, explanation: str, **drawn: Any) -> str:
    values = {"bars": (), "filter_name": "", "histogram": None, **drawn}
    return fragment("triptych_data.preview", "panel", key=key, title=title, explanation=explanation, **values)


def _bars(key: str, title: str, explanation: str, *, filter_name: str, bars: Sequence[tuple[str, str, int]]) -> str:
    """Buttons with a bar each: (value to filter by, label, number of rows)."""
    most = max((rows for _, _, rows in bars), default=1)
    drawn = [
        {
            "value": value,
            "label": label,
            "bad": label.startswith(REFUSED),
            "width": f"{max(100 * rows / most, 0.5):.2f}",
            "rows": f"{rows:,}",
        }
        for value, label, rows in bars
    ]
    return _panel(key, title, explanation, filter_name=filter_name, bars=drawn)


def _histogram(key: str, title: str, values: Sequence[int], *, limit: int | None, unit: str = "rows") -> str:
    found = bins(values)
    low, high = found[0][0], max(found[-1][1], (limit or 0) + 1)
    most = max(rows for _, _, rows in found)
    bottom = HEIGHT - BOTTOM
    middle = 0.5 if found[0][1] - found[0][0] == 1 else 0.0  # a bar for one number has it in its middle

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * (value - low) / (high - low)

    bars = [
        {
            "kind": "over" if limit is not None and start > limit else "in",
            "x": f"{x(start):.1f}",
            "y": f"{bottom - (bottom - 10) * rows / most:.1f}",
            "width": f"{max(x(stop) - x(start) - 1, 1):.1f}",
            "height": f"{(bottom - 10) * rows / most:.1f}",
            "words": f"{_interval(start, stop)}: {rows:,} {unit}",
        }
        for start, stop, rows in found
        if rows
    ]
    labels = [
        (f"{x(edge + middle):.1f}", f"{edge:,.0f}")
        for edge in ticks(low, high, count=6)
        if low <= edge <= high - middle and edge == int(edge)
    ]
    words = spread(values)
    if limit is not None:
        over = sum(value > limit for value in values)
        words += f"; limit {limit:,}, {over:,} over it"
    histogram = {
        "size": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": bottom},
        "label": f"{title}: {words}",
        "bars": bars,
        "labels": labels,
        "most": f"{most:,}",
        "limit": None if limit is None else f"{x(limit + 2 * middle):.1f}",
    }
    return _panel(key, title, words[:1].upper() + words[1:] + ".", histogram=histogram)


def _interval(start: int, stop: int) -> str:
    return f"{start:,}" if stop - start == 1 else f"{start:,} to {stop - 1:,}"
