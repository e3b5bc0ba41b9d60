"""Every private name of another library that is used anywhere stands in the border (`upstream/`), or is listed here."""

import ast
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import triptych_trainer
from triptych_trainer.demo import build_model
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream import torch_names, transformers_names, trl_names

PACKAGES = Path(triptych_trainer.__file__).resolve().parents[3]
BORDER = {
    *trl_names.METHODS,
    *trl_names.ATTRIBUTES,
    *trl_names.WHILE_TRAINING,
    *trl_names.WITH_ENGINE,
    *trl_names.CONNECTION,
    *trl_names.CONNECTION_TO_ENGINE,
    *trl_names.CLIENT,
    *trl_names.SFT_METHODS,
    *trl_names.SFT_ATTRIBUTES,
    *(name for _, names in transformers_names.ATTRIBUTES for name in names),
    *transformers_names.OF_A_CONFIG,
    *transformers_names.WRITTEN_LATER,
    *transformers_names.READ_BY_PEFT,
    *torch_names.MODULE_NAMES,
    *torch_names.OPS,
    *torch_names.OF_OTHERS,
}
OF_THE_STANDARD_LIBRARY = {"_ArgumentGroup", "_actions", "_group_actions"}
"""Of argparse."""
OF_DATASETS = {"_fingerprint"}
"""Of a `datasets.Dataset`, by which its library itself names its caches."""
OF_PROCESSORS = {
    "_defaults",
    "_get_grid_layout",
    "_get_num_multimodal_tokens",
    "_get_number_of_features",
    "_is_image_too_large",
}
"""Of processors that are given to the parser, which imports no library; `check_processor` tests them."""


@cache
def trees() -> dict[str, ast.Module]:
    files = sorted(PACKAGES.glob("*/src/**/*.py"))
    return {path.relative_to(PACKAGES).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def names_of_our_classes(tree: ast.Module) -> Iterator[str]:
    """What the classes of a file define, and what their methods write on themselves."""
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in kind.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        for node in ast.walk(kind):
            written = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if written and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr


def private_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Private attributes that a file reads, writes or asks for, also by `getattr` and its like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, node.lineno
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if called in ("getattr", "setattr", "hasattr", "delattr") and len(node.args) > 1:
            name = getattr(node.args[1], "value", None)
            yield from [(name, node.lineno)] if is_private(name) else []


def unknown(sources: dict[str, ast.Module]) -> list[str]:
    ours = {name for tree in trees().values() for name in names_of_our_classes(tree)}
    known = ours | BORDER | OF_THE_STANDARD_LIBRARY | OF_DATASETS | OF_PROCESSORS
    return [
        f"{path}:{line}: {name}"
        for path, tree in sources.items()
        for name, line in private_names(tree)
        if name not in known
    ]


def test_every_private_attribute_of_another_library_stands_in_the_border():
    assert not unknown(trees()), "name it in upstream/, with a check when a run starts"


@pytest.mark.parametrize(
    "line", ["backend._weight_metadata", "getattr(model, '_no_split_modules', None)", "layer._is_x = 1"]
)
def test_a_private_attribute_that_is_used_without_being_listed_is_found(line):
    assert len(unknown({"some.py": ast.parse(line)})) == 1


def test_the_border_lists_nothing_private_that_nobody_uses():
    used = {name for tree in trees().values() for name, _ in private_names(tree)}
    idle = {name for name in BORDER | OF_THE_STANDARD_LIBRARY | OF_DATASETS | OF_PROCESSORS if is_private(name)} - used
    assert idle <= {*trl_names.METHODS, *trl_names.SFT_METHODS}, "what is only overridden is a method"


def test_only_the_border_imports_private_modules():
    for path, tree in trees().items():
        if "/upstream/" in path:
            continue
        for node in (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))):
            module = getattr(node, "module", None) or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            private = [name for name in names if any(is_private(part) for part in name.split("."))]
            assert all(name.startswith("triptych_kernels") for name in private), f"{path}:{node.lineno}: {private}"


def test_transformers_writes_its_marks_on_checkpointed_layers_and_on_loaded_weights(model_dir):
    model = build_model(0)
    model.gradient_checkpointing_enable()
    assert any(hasattr(module, "_gradient_checkpointing_func") for module in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = type(model).from_pretrained(model_dir)
    assert all(getattr(weight, "_is_hf_initialized", False) for weight in loaded.parameters())


def test_a_lost_name_of_torch_is_named(monkeypatch):
    torch_names.check_module_names()
    monkeypatch.setattr(torch_names, "MODULE_NAMES", ("_parameters", "_gone"))
    with pytest.raises(IncompatibleVersionError, match=r"torch .* is not .*: Module\._gone is gone"):
        torch_names.check_module_names()


def test_a_lost_name_of_a_configuration_is_named(monkeypatch):
    monkeypatch.setattr(transformers_names, "OF_A_CONFIG", ("_name_or_path", "_gone"))
    with pytest.raises(IncompatibleVersionError, match=r"PreTrainedConfig\._gone is gone; install a version"):
        transformers_names.check_names.__wrapped__()
