"""The processors of `processor_zoo` as fixtures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from processor_zoo import FAMILIES, MOVING, built


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Every family in turn: its name, its processor, and the `chat_template_images` that accepts its template."""
    processor = built(request.param)
    choice = "template" if request.param in MOVING else "exact"
    return SimpleNamespace(name=request.param, processor=processor, chat_template_images=choice)


@pytest.fixture(scope="session")
def qwen() -> Any:
    return built("qwen2_5_vl")


@pytest.fixture(scope="session")
def build() -> Callable[[str], Any]:
    """A family's processor by name."""
    return built
