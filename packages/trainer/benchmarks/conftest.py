"""Makes `subject.py` and `turns_subject.py` available as fixtures: pytest does not put this folder on the path."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def subject() -> ModuleType:
    return _load("subject")


@pytest.fixture(scope="session")
def turns_subject() -> ModuleType:
    sys.path.append(str(Path(__file__).parent))  # it imports `turns_model`
    return _load("turns_subject")


def _load(stem: str) -> ModuleType:
    name = f"triptych_trainer_benchmark_{stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{stem}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
