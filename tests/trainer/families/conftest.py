"""Makes `models.py` available as the fixture `zoo`, and the sharing tests' helpers as `lab`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    return _load("triptych_sharing_helpers", Path(__file__).parents[1] / "forward" / "helpers.py")


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    return _load("triptych_family_models", Path(__file__).with_name("models.py"))
