"""Rules that no single package can check: which package imports which, and that exports exist and are used."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("parser", "kernels", "data", "trainer")
# The words with which docstrings of functions and methods begin. A new verb is added here.
VERBS = frozenset(
    re.findall(
        r"\w+",
        """
Accumulate Add Agree Answer Append Ask Attend Await Become Begin Build Call Check Choose Clear Click Close Compare
Compute Concatenate Convert Count Cut Decode Describe Divide Do Draw Drop Encode Estimate Expand Fill Find Flatten
Force Forecast Forget Forward Generate Give Go Hand Import Install Join Keep Lay Learn Leave Let List Load Log Look
Make Mark Match Merge Move Name Note Number Open Order Pad Pair Parse Plan Play Prefill Prepare Press Print Put Raise
Read Rebuild Record Refuse Register Remember Remove Render Repeat Reserve Resize Return Roll Run Sample Save Say Score
Send Serve Set Show Slice Split Start Stop Sum Switch Take Tokenize Trace Train Turn Undo Upload Wait Walk Warm Warn
Wrap Write Yield
""",
    )
)
# Those with which docstrings of classes begin: what an object does, contains or says.
CLASS_VERBS = frozenset(
    re.findall(
        r"\w+",
        """
Adds Answers Asks Caches Collects Contains Counts Cuts Decodes Describes Does Embeds Ends Feeds Finds Generates Gives
Joins Keeps Looks Makes Marks Measures Names Orders Parses Plays Prepares Projects Reads Refers Remembers Represents
Runs Samples Saves Says Scores Sends Serves Sets Shares Takes Talks Trains Turns Warns Watches Writes
""",
    )
)
ARROWS = {"parser": set(), "kernels": set(), "data": {"parser"}, "trainer": {"parser", "kernels", "data"}}


@cache
def sources(package: str) -> list[Path]:
    return sorted((ROOT / "packages" / package / "src" / f"triptych_{package}").rglob("*.py"))


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file; each file is parsed once for all tests, which takes a second for all of them."""
    return ast.parse(text_of(path))


@cache
def nodes_of(path: Path) -> dict[type, list[Any]]:
    """The imports and functions of a file."""
    found: dict[type, list[Any]] = {ast.Import: [], ast.ImportFrom: [], ast.FunctionDef: [], ast.AsyncFunctionDef: []}
    for node in ast.walk(tree_of(path)):
        found.get(type(node), []).append(node)
    return found


@cache
def imported_modules(path: Path) -> frozenset[str]:
    names = {alias.name for node in nodes_of(path)[ast.Import] for alias in node.names}
    return frozenset(names | {node.module for node in nodes_of(path)[ast.ImportFrom] if node.module and not node.level})


def exports_of(path: Path) -> list[str]:
    """The names in the `__all__` of a file, read without importing it."""
    assigned = [node for node in tree_of(path).body if isinstance(node, (ast.Assign, ast.AnnAssign))]
    lists = [node.value for node in assigned if "__all__" in ast.unparse(node).split("=")[0]]
    return [name for value in lists if value is not None for name in ast.literal_eval(value)]


def module_name(path: Path) -> str:
    relative = path.relative_to(ROOT / "packages").with_suffix("")
    parts = relative.parts[2:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package):
    allowed = {f"triptych_{name}" for name in ARROWS[package] | {package}}
    for path in sources(package):
        ours = {name.split(".")[0] for name in imported_modules(path) if name.startswith("triptych_")}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {sorted(ours - allowed)}, allowed: {sorted(allowed)}"


def test_every_package_has_sources():
    assert all(len(sources(package)) > 1 for package in PACKAGES)


def test_parser_sources_name_only_the_standard_library():
    for path in sources("parser"):
        tops = {name.split(".")[0] for name in imported_modules(path)}
        outside = tops - set(sys.stdlib_module_names) - {"triptych_parser"}
        assert not outside, f"{path.relative_to(ROOT)} imports {sorted(outside)}"


def test_importing_the_parser_loads_nothing_outside_the_standard_library():
    code = (
        "import sys; before = set(sys.modules); import triptych_parser;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names) - {'triptych_parser'}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.slow  # starts processes
def test_importing_a_package_prints_nothing_and_patches_no_setting(package):
    code = f"import triptych_{package}, os; os.environ.pop('x', None)"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_honest(package):
    module = importlib.import_module(f"triptych_{package}")
    assert module.__all__, "a package exports something"
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None, name


@pytest.mark.parametrize("package", PACKAGES)
def test_submodule_exports_exist(package):
    for path in sources(package):
        if "__all__" in text_of(path) and exports_of(path):
            module = importlib.import_module(module_name(path))
            missing = [name for name in module.__all__ if not hasattr(module, name)]
            assert not missing, f"{path.relative_to(ROOT)} exports {missing}"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_declares_only_the_arrows(package):
    text = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
    for other in PACKAGES:
        if other != package and other not in ARROWS[package]:
            assert f"triptych-{other}" not in text


def folders_of_the_trainer() -> dict[str, set[str]]:
    """Every folder of the trainer, and the other folders that its modules import from."""
    root = ROOT / "packages" / "trainer" / "src" / "triptych_trainer"
    arrows: dict[str, set[str]] = {path.name: set() for path in root.iterdir() if (path / "__init__.py").is_file()}
    for path in sources("trainer"):
        folder = path.relative_to(root).parts[0]
        for name in imported_modules(path) if folder in arrows else ():
            if name.startswith("triptych_trainer."):
                arrows[folder] |= {name.split(".")[1]} & arrows.keys() - {folder}
    return arrows


def test_no_circle_leads_through_the_folders_of_the_trainer():
    arrows = folders_of_the_trainer()
    while free := [folder for folder, others in arrows.items() if not others & arrows.keys()]:
        arrows = {folder: others for folder, others in arrows.items() if folder not in free}
    assert not arrows, "these folders import each other"


def test_only_the_entry_points_and_the_errors_lie_at_the_root_of_the_trainer():
    root = ROOT / "packages" / "trainer" / "src" / "triptych_trainer"
    assert {path.name for path in root.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py", "errors.py"}
    inside = [name for name in imported_modules(root / "errors.py") if name.startswith("triptych_trainer")]
    assert not inside, f"errors.py imports {inside}; every folder imports errors.py, so that would be a circle"


def pictures() -> list[dict[str, set[str]]]:
    """The arrows of the pictures in docs/architecture.md whose boxes are packages or folders."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = [
        re.findall(r"^ +(\w+) --> (\w+)$", block, re.MULTILINE)
        for block in re.findall(r"```mermaid(.*?)```", page, re.DOTALL)
    ]
    return [{a: {b for first, b in arrows if first == a} for a, _ in arrows} for arrows in drawn if arrows]


def reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    """Everything that arrows lead to from a box, over other boxes too."""
    found: set[str] = set()
    while new := set().union(*(arrows.get(name, set()) for name in found | {start})) - found:
        found |= new
    return found


def test_the_pictures_show_the_imports():
    packages, folders, *_ = pictures()
    assert packages == {name: others for name, others in ARROWS.items() if others}
    actual = folders_of_the_trainer()
    for folder, others in folders.items():
        assert others <= actual[folder], f"docs/architecture.md draws an arrow from {folder} that no import follows"
    for folder, others in actual.items():
        missing = others - reached(folders, folder)
        assert not missing, f"{folder} imports from {sorted(missing)}: draw the arrow in docs/architecture.md"


def test_folders_export_what_others_import_from_them():
    root = ROOT / "packages" / "trainer" / "src" / "triptych_trainer"
    assert exports_of(root / "forward" / "__init__.py"), "the lists of exports are found"
    documents = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    for folder in folders_of_the_trainer().keys() - {
        "rewards",
        "demo",
    }:  # for users, and for tests
        name, used = f"triptych_trainer.{folder}", set()
        for path in [path for path in sources("trainer") if root / folder not in path.parents]:
            text = text_of(path)
            used |= set(re.findall(rf"\b{folder}\.(\w+)", text)) if f"import {name} as {folder}" in text else set()
            imports = [node for node in nodes_of(path)[ast.ImportFrom] if node.module == name]
            used |= {alias.name for node in imports for alias in node.names}
        idle = [one for one in exports_of(root / folder / "__init__.py") if one not in used and one not in documents]
        assert not idle, f"{name} exports {idle}, which nothing outside the folder imports"


def test_the_step_is_one_file_without_trl():
    """What the step imports, directly and through modules of ours, is no part of TRL nor of the border to it."""
    by_name = {module_name(path): path for path in sources("trainer")}
    step = by_name["triptych_trainer.grpo.step"]
    assert len(text_of(step).splitlines()) <= 250
    assert not {name.split(".")[0] for name in imported_modules(step)} & {"trl", "transformers"}
    found, waiting = set(), [step]
    while waiting:
        new = imported_modules(waiting.pop()) - found
        found |= new
        waiting += [by_name[name] for name in new if name in by_name]
    assert "triptych_trainer.grpo.engine" in found, "the imports of the step are followed"
    assert not [name for name in found if name.split(".")[0] == "trl" or "grpo.trl" in name]


LONG_FUNCTIONS = {
    "packages/trainer/src/triptych_trainer/grpo/trl/trainer.py:__init__": "a line for each parameter, TRL's too",
}


def functions_of(path: Path) -> list[tuple[str, int]]:
    """Every function of a file, with its number of lines."""
    found = nodes_of(path)[ast.FunctionDef] + nodes_of(path)[ast.AsyncFunctionDef]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_as_short_as_agreed(package):
    for path in sources(package):
        name = path.relative_to(ROOT).as_posix()
        lines = len(text_of(path).splitlines())
        assert lines <= 300, f"{name} has {lines} lines, at most 300 are agreed; split it along its ideas"
        for function, lines in functions_of(path):
            known = f"{name}:{function}" in LONG_FUNCTIONS
            assert lines <= 60 or known, f"{name}: {function} has {lines} lines, at most 60 are agreed; split it"


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a module and methods of its classes; a property names what it is, as an attribute does."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield from [] if any("property" in ast.unparse(name) for name in node.decorator_list) else [node]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_of_public_functions_are_sentences_that_begin_with_a_verb(package):
    for path in sources(package):
        for node in public_functions(tree_of(path).body):
            words = (ast.get_docstring(node) or "").split()
            where = f"{path}:{node.lineno} {node.name}: {' '.join(words[:6])!r}"
            assert words, where
            assert words[0].rstrip(",") in VERBS, where
            assert words[1] not in ("of", "ids"), where


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_of_public_classes_begin_with_a_verb(package):
    for path in sources(package):
        for node in (node for node in tree_of(path).body if isinstance(node, ast.ClassDef)):
            words = (ast.get_docstring(node) or "").split()
            known = bool(words) and words[0].rstrip(",") in CLASS_VERBS
            assert known or node.name.startswith("_"), f"{path}:{node.lineno} {node.name}: {' '.join(words[:6])!r}"


def test_no_two_public_classes_have_one_name():
    found: dict[str, Path] = {}
    for path in [path for package in PACKAGES for path in sources(package)]:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in found, f"{node.name} is in {found[node.name]} and in {path}: rename one"
                found[node.name] = path
