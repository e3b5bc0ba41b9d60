"""Each line of once_wrong.md names tests that exist; nothing is run for it."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = [
    line for line in (ROOT / "tests" / "once_wrong.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "
]
ROWS = [line for line in LINES if line != "| what was wrong | test |"]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)(?:\[([^`]+)\])?`")


@functools.cache
def names_and_texts(file: str) -> tuple[set[str], str]:
    """The functions of a file, and every text that it or a module that it imports from tests/ writes."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    trees = [tree, *(ast.parse(path.read_text(encoding="utf-8")) for path in support_files(frozenset(modules)))]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return functions, "\n".join(value for value in constants if isinstance(value, str))


def support_files(modules: frozenset[str]) -> list[Path]:
    """The files in folders named `support` with these names."""
    return [path for path in (ROOT / "tests").rglob("support/*.py") if path.stem in modules]


@pytest.mark.parametrize("row", ROWS, ids=[row[2:60] for row in ROWS])
def test_each_line_names_tests_that_exist(row):
    what, tests = row.strip("| ").rsplit(" | ", 1)
    assert what
    nodes = NODE.findall(tests)
    assert nodes
    assert re.sub(NODE, "", tests).strip(", ") == "", "and nothing else"
    for file, name, case in nodes:
        functions, texts = names_and_texts(file)
        assert name in functions, f"{file} has no test {name}"
        assert case in texts, f"{file} has no case {case!r}"


def test_no_line_is_lost():
    assert len(ROWS) >= 70
