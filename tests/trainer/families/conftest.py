"""The families' tiny models with real processors as `kits`, each built once; the sharing tests' helpers as `lab`."""

import copy
import gc
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("triptych").addoption(
        "--write-families", action="store_true", help="write docs/families.md from what these tests measure"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `family_name` for every family; those of the long tail are slow."""
    if "family_name" in metafunc.fixturenames:
        kits = _load("triptych_family_kits", HERE / "kits" / "__init__.py", package=True)
        slow = {name: [pytest.mark.slow] if name not in kits.QUICK else [] for name in kits.CASES}
        metafunc.parametrize("family_name", [pytest.param(name, marks=marks) for name, marks in slow.items()])


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
        if case.needs is not None:
            pytest.importorskip(case.needs)
        if name not in built:
            try:
                processor = case.processor()
                stock = kits.build_model(case, processor).train()
            except AttributeError as error:
                if is_at_least(5, 23) or "module transformers has no attribute" not in str(error):
                    raise
                pytest.skip(f"{name} needs a later transformers")
            if not is_at_least(*family_of(stock).least_transformers):
                pytest.skip(f"{name} needs a later transformers")
            model = copy.deepcopy(stock)
            prompts = kits.build_prompts(case, model, processor, images=IMAGES, lengths=LENGTHS)
            built[name] = Kit(case=case, processor=processor, stock=stock, prompts=prompts)
            gc.freeze()  # it stays until the end, and no garbage collection of a training run need visit it
        return built[name]

    return kit_of


@pytest.fixture
def kit(kit_of: Callable[[str], Kit], family_name: str) -> Kit:
    """Every family in turn."""
    return kit_of(family_name)


@pytest.fixture(scope="session")
def measured(kits: ModuleType, pytestconfig: pytest.Config) -> Iterator[dict[str, dict[str, Any]]]:
    """What the tests record of each family; written into the document at the end where that is asked for."""
    rows: dict[str, dict[str, Any]] = {name: {"note": case.note} for name, case in kits.CASES.items()}
    yield rows
    if pytestconfig.getoption("write_families", False):
        kits.write_rows(rows)


@pytest.fixture
def record(
    kits: ModuleType, family_name: str, measured: dict[str, dict[str, Any]], pytestconfig: pytest.Config
) -> Callable[..., None]:
    """Record what a test measured of its family; without `--write-families` the document has to say the same."""

    def record(**found: Any) -> None:
        measured[family_name] |= found
        if not pytestconfig.getoption("write_families", False):
            wrong = kits.differences(kits.stated_rows().get(kits.CASES[family_name].note), found)
            assert not wrong, f"docs/families.md is not current, run make families: {'; '.join(wrong)}"

    return record


@pytest.fixture(scope="session")
def folder_of(kit_of: Callable[[str], Kit], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's folder as a user would name it: weights, processor, tokenizer and chat template."""

    def folder_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        kit = kit_of(name)
        kit.stock.save_pretrained(folder)
        kit.processor.save_pretrained(folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def rows(kits: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[int]], Path]:
    """Write rows with the given numbers of images."""
    base = tmp_path_factory.mktemp("rows")
    for number, picture in enumerate(kits.pictures(4)):
        picture.save(base / f"{number}.png")

    def write(counts: Sequence[int]) -> Path:
        path = base / f"{'-'.join(map(str, counts))}.jsonl"
        lines = [
            {
                "id": f"row-{row}",
                "images": [f"{(row + k) % 4}.png" for k in range(count)],
                "problem": "".join(f"Part {k + 1} <image> . " for k in range(count)) + "Which one?",
                "solution": "red",
            }
            for row, count in enumerate(counts)
        ]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def order(tmp_path: Path) -> str:
    """A reward that differs within every group, whatever is sampled."""
    path = tmp_path / "rewards.py"
    path.write_text("def order(completions, **columns):\n    return [float(k) for k in range(len(completions))]\n")
    return f"{path}:order"


@pytest.fixture(scope="session")
def train() -> Callable[..., int]:
    """Run `train` for one step and return its exit code."""
    from triptych_trainer.commands.train import main

    def train(folder: Path, data: Path, reward: str, out: Path, *more: str) -> int:
        return main(
            [
                *("--model_name_or_path", str(folder), "--data", str(data), "--output_dir", str(out)),
                *("--reward", reward, "--max_steps", "1", "--learning_rate", "1e-2", "--max_completion_length", "4"),
                *("--num_generations", "2", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"),
                *("--save_strategy", "no", "--memory_forecast", "False", "--bf16", "False"),
                *more,
            ]
        )

    return train
