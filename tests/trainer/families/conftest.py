"""The families' tiny models with real processors as `kits`, each built once; the sharing tests' helpers as `lab`."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from triptych_trainer.models.families import family_of
from triptych_trainer.upstream.transformers_names import is_at_least

HERE = Path(__file__).parent
IMAGES = (2, 0, 1, 3)
LENGTHS = ((5, 3), (4, 1), (2, 9), (3, 6, 2))


def _load(name: str, path: Path, *, package: bool = False) -> ModuleType:
    if name not in sys.modules:
        folders = [str(path.parent)] if package else None
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `family_name` for every family; those of the long tail are slow."""
    if "family_name" in metafunc.fixturenames:
        cases = _load("triptych_family_kits", HERE / "kits" / "__init__.py", package=True).CASES
        names = [pytest.param(name, marks=[pytest.mark.slow] * case.slow) for name, case in cases.items()]
        metafunc.parametrize("family_name", names)


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    return _load("triptych_sharing_helpers", HERE.parent / "forward" / "helpers.py")


@pytest.fixture(scope="session")
def kits() -> ModuleType:
    return _load("triptych_family_kits", HERE / "kits" / "__init__.py", package=True)


@dataclass(kw_only=True)
class Kit:
    """One family, built: the case, its processor, the untouched model, prompts with completions."""

    case: Any
    processor: Any
    stock: Any
    prompts: Any

    def model(self) -> torch.nn.Module:
        """A copy that a test may prepare and train."""
        return copy.deepcopy(self.stock)


@pytest.fixture(scope="session")
def kit_of(kits: ModuleType) -> Callable[[str], Kit]:
    """A family by name, built once per session."""
    built: dict[str, Kit] = {}

    def kit_of(name: str) -> Kit:
        case = kits.CASES[name]
        if case.torchvision:
            pytest.importorskip("torchvision", reason=f"the processor of {name} needs torchvision")
        if name not in built:
            processor = case.processor()
            stock = kits.build_model(case, processor).train()
            if not is_at_least(*family_of(stock).least_transformers):
                pytest.skip(f"{name} needs a later transformers")
            model = copy.deepcopy(stock)
            prompts = kits.build_prompts(case, model, processor, images=IMAGES, lengths=LENGTHS)
            built[name] = Kit(case=case, processor=processor, stock=stock, prompts=prompts)
        return built[name]

    return kit_of


@pytest.fixture
def kit(kit_of: Callable[[str], Kit], family_name: str) -> Kit:
    """Every family in turn."""
    return kit_of(family_name)
