"""Work grows with the text and no faster, counted and not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from triptych_parser import DIALECTS, parse
from triptych_parser.scan import escape, scan


class CountingText(str):
    """A text that counts how many of its characters are looked at or copied."""

    work = 0

    def find(self, part: str, start: int = 0, *rest: int) -> int:
        at = super().find(part, start, *rest)
        self.work += (at - start if at >= 0 else len(self) - start) + len(part)
        return at

    def __getitem__(self, key: Any) -> str:
        piece = super().__getitem__(key)
        self.work += len(piece) + 1
        return piece

    def startswith(self, part: str, *rest: int) -> bool:
        self.work += len(part)
        return super().startswith(part, *rest)


UNITS = {
    "plain": "just some words ",
    "markers": "<image> and ",
    "named": "<image:name|an annotation> ",
    "backslashes": "\\",
    "escaped": "\\\\\\<image> ",
    "unclosed": "<image:",
    "unclosed escaped": "<image:\\<image|\\>",
    "chained": "\\<image:",
    "nested annotations": "<image|\\<image:",
    "chained annotations": "\\<image|",
    "almost": "<image|x\n",
    "angles": "<<<>>>",
    "half phi": "<|image_1",
    "half qwen": "<|vision_start|><|image_pad|>",
    "bars": "<image:a|||\\|",
}


ENDS = ["", ">", "<image>"]


def steps(run: Callable[[CountingText], object], text: str) -> int:
    counting = CountingText(text)
    run(counting)
    return counting.work


@pytest.mark.slow_except(
    "image-markers", "image-unclosed", "image-chained", "internvl-markers", "internvl-escaped", "phi-half phi"
)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.opener])
def test_ten_times_the_text_is_at_most_twelve_times_the_work(name: str, unit: str) -> None:
    opener, matcher = DIALECTS[name].opener, DIALECTS[name].matcher
    assert opener is not None
    assert matcher is not None

    def read(text: CountingText) -> object:
        return scan(text, opener=opener, matcher=matcher)

    def write(text: CountingText) -> object:
        return escape(text, opener=opener, matcher=matcher, before_marker=True)

    for run in (read, write):
        for end in ENDS:
            small, large = (steps(run, unit * (size // len(unit)) + end) for size in (4_000, 40_000))
            assert small <= large <= 12 * small
            assert large <= 12 * 40_000


def test_ten_megabytes_are_read_in_linear_work() -> None:
    image = DIALECTS["image"]
    page = UNITS["plain"] * 120 + UNITS["named"] + UNITS["escaped"] + UNITS["unclosed escaped"] + "\n"

    def read(text: CountingText) -> object:
        assert image.opener is not None
        assert image.matcher is not None
        return scan(text, opener=image.opener, matcher=image.matcher)

    small, large = (steps(read, page * (size // len(page))) for size in (1_000_000, 10_000_000))
    assert 9 * small <= large <= 12 * small
    assert large <= 12 * 10_000_000


@pytest.mark.parametrize("unit", ["plain", "markers", "escaped"])
def test_a_long_text_parses_to_what_a_small_text_says(unit: str) -> None:
    count = 200_000 // len(UNITS[unit])
    assert parse(UNITS[unit] * count).num_markers == count * parse(UNITS[unit]).num_markers
