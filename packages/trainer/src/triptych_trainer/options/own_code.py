"""Tools and environments of the user's own: ``file.py:name`` or ``module:name``."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych_trainer.errors import UsageError

__all__ = ["check_own_files", "read_environment", "read_tools"]

_NAMED = re.compile(r"([\w.-]+)=(.+)")
"""An environment with the name by which rows choose it."""


def read_tools(specs: Sequence[str]) -> list[Callable[..., Any]]:
    """Return the functions that ``--tools`` names.

    Raises:
        UsageError: one cannot be found or loaded; says what to write.
    """
    found = [_named(spec, option="--tools") for spec in specs]
    for spec, function in zip(specs, found, strict=True):
        if not callable(function) or isinstance(function, type):
            raise UsageError(
                f"--tools {spec}: expected a function, got {type(function).__name__}; name one of its functions"
            )
    return found


def read_environment(specs: Sequence[str]) -> Callable[[], Any] | dict[str, Callable[[], Any]] | None:
    """Return the class, or the function that makes an environment, that ``--environment`` names; by name if it gives
    names.

    Raises:
        UsageError: one cannot be found or loaded, or several have no names or the same one; says what to write.
    """
    pairs = [_NAMED.fullmatch(spec) for spec in specs]
    if not specs:
        return None
    if len(specs) == 1 and pairs[0] is None:
        return _factory(specs[0])
    named: dict[str, Callable[[], Any]] = {}
    for spec, pair in zip(specs, pairs, strict=True):
        if pair is None:
            raise UsageError(
                f"--environment {spec}: several environments need names, by which the column environment of a row "
                f"chooses; write name={spec}"
            )
        name, place = pair.groups()
        if name in named:
            raise UsageError(f"--environment {spec}: there are two environments named {name}; rename one")
        named[name] = _factory(place)
    return named


def _factory(spec: str) -> Callable[[], Any]:
    factory = _named(spec, option="--environment")
    if not callable(factory):
        raise UsageError(
            f"--environment {spec}: expected a class, got {type(factory).__name__}; name one of its classes"
        )
    return factory  # type: ignore[no-any-return]


def _named(spec: str, *, option: str) -> Any:
    location, name = _parts(spec, option=option)
    module = _file(Path(location), f"{option} {spec}") if location.endswith(".py") else _module(location, option, spec)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{option} {spec}: {location} has no {name!r}; it has {', '.join(known) or 'none'}")
    return getattr(module, name)


def check_own_files(specs: Sequence[str], *, option: str) -> None:
    """Raise UsageError if a file that ``--tools`` or ``--environment`` names does not exist or is no Python; nothing is
    loaded.
    """
    for spec in specs:
        named = _NAMED.fullmatch(spec)
        place = named[2] if named and option == "--environment" else spec
        location = _parts(place, option=option)[0]
        if location.endswith(".py"):
            _check_file(Path(location), f"{option} {place}")
            _check_syntax(Path(location), f"{option} {place}")


def _parts(spec: str, *, option: str) -> tuple[str, str]:
    """The file or module, and the name in it."""
    location, _, name = spec.rpartition(":")
    if not location or not name:
        raise UsageError(f"{option} {spec}: write file.py:name, or module:name")
    return location, name


def _check_syntax(path: Path, what: str) -> None:
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        raise _not_loaded(path, error, what) from error


def _not_loaded(path: Path, error: BaseException, what: str) -> UsageError:
    return UsageError(f"{what}: {path} cannot be loaded: {type(error).__name__}: {error}; correct the file")


def _check_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise UsageError(
            f"{what}: there is no file {path}; name one that exists, from the folder in which the command runs"
        )


def _file(path: Path, what: str) -> ModuleType:
    _check_file(path, what)
    unique = f"triptych_own_{path.stem}_{zlib.crc32(bytes(path.resolve())):08x}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, path.resolve())
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses and type hints look the module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # sys.exit() would end the run with exit code 0 and without a model
        del sys.modules[unique]
        raise _not_loaded(path, error, what) from error
    return module


def _module(name: str, option: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{option} {spec}: {name} cannot be imported ({error}); install it, run from the folder that contains it "
            "with PYTHONPATH=., or write file.py:name"
        ) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{option} {spec}: {name} cannot be loaded: {type(error).__name__}: {error}; correct the module"
        ) from error
