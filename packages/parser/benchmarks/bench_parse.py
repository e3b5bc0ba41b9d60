"""Reading markers: `parse` against `re.split` and against copying the same text once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from triptych_parser import parse

SENTENCE = "Which of the screens shows the menu before the tap, and what stands in it? "
TEXTS = {
    "1 MB, one marker per kilobyte": (SENTENCE * 13 + "<image>") * 1_000,
    "100 kB, markers only": "<image>" * 14_000,
    "1 MB, no marker": SENTENCE * 13_000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_parse(benchmark: Any, name: str) -> None:
    benchmark.group = name
    benchmark.extra_info["bytes"] = len(TEXTS[name])
    prompt = benchmark(parse, TEXTS[name])
    assert prompt.num_markers == TEXTS[name].count("<image>")


@pytest.mark.parametrize("name", TEXTS)
def test_split(benchmark: Any, name: str) -> None:
    """The plain regular expression that peers use: positions, but no escapes, names, or places for errors."""
    benchmark.group = name
    pieces = benchmark(re.split, "(<image>)", TEXTS[name])
    assert len(pieces[1::2]) == parse(TEXTS[name]).num_markers


@pytest.mark.parametrize("name", TEXTS)
def test_copy(benchmark: Any, name: str) -> None:
    """The floor: every byte read and written once."""
    benchmark.group = name
    copy = benchmark(lambda: bytes(bytearray(TEXTS[name], "utf-8")))
    assert copy.decode() == TEXTS[name]
