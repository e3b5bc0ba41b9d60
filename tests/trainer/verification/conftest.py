"""The families' tiny models with real processors, and rows to compare them on."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from triptych_trainer.verification.comparison import ComparedRow

FILE = Path(__file__).parents[1] / "families" / "conftest.py"


def _families() -> Any:
    name = "triptych_family_fixtures"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FILE)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


kits, kit_of = _families().kits, _families().kit_of
pytest_generate_tests = _families().pytest_generate_tests


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Any, Any], tuple[Any, list[ComparedRow]]]:
    """The prompts of a kit with three and one images, as a batch and as rows of the processor's own inputs."""

    def rows_of(kit: Any, prompts: tuple[int, ...] = (3, 2)) -> tuple[Any, list[ComparedRow]]:
        chosen = kit.prompts.select(list(prompts))
        completions = [group[0] for group in chosen.batch.completions]
        rows = [
            ComparedRow(where=f"prompt {p}", inputs=inputs, completion=tuple(ids))
            for p, inputs, ids in zip(prompts, chosen.stock, completions, strict=True)
        ]
        return chosen.batch, rows

    return rows_of
