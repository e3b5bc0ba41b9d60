"""Every public docstring shows a use that runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
import triptych_parser

MODULES = [
    module.name
    for module in pkgutil.walk_packages(triptych_parser.__path__, prefix="triptych_parser.")
    if not module.name.endswith("__main__")
]


def documented() -> list[tuple[str, object]]:
    """The public functions and classes, and the public methods and properties of those classes."""
    found: list[tuple[str, object]] = []
    for name in triptych_parser.__all__:
        thing = getattr(triptych_parser, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        found.append((name, thing))
        if inspect.isclass(thing):
            members = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
            found += [
                (f"{name}.{key}", value)
                for key, value in members.items()
                if isinstance(value, property) or inspect.isfunction(value)
            ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize(("name", "thing"), documented(), ids=[name for name, _ in documented()])
def test_a_public_docstring_has_an_example(name: str, thing: object) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(thing) or "")
    assert examples, f"{name} has no example"
