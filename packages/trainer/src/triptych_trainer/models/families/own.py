"""An adapter of the user's own, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families.by_model_type import register_family
from triptych_trainer.models.families.family import Family


def use_own_family(spec: str | None, *, option: str = "--family") -> None:
    """Register the adapter that `module:Class` or `path/to/file.py:Class` names; None registers nothing.

    Raises:
        UsageError: there is no such file, module or class, or the class is no adapter.
    """
    if spec is None:
        return
    location, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        raise UsageError(f"{option} {spec}: expected module:Class or path/to/file.py:Class")
    try:
        module = _file(Path(location)) if location.endswith(".py") else importlib.import_module(location)
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"{option} {spec}: {location} cannot be loaded ({why}); correct it, or name another"
        ) from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Family)):
        raise UsageError(
            f"{option} {spec}: expected a class that derives from triptych_trainer.models.families.Family, "
            f"got {name} = {found!r}"
        )
    try:
        register_family(found())
    except ValueError as error:
        raise UsageError(f"{option} {spec}: {error}") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no such file (looked from {Path.cwd()})")
    spec = importlib.util.spec_from_file_location(f"triptych_own_family_{path.stem}", path.resolve())
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
