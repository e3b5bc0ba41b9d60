"""The versions that Triptych's packages ask for, compared with the installed ones before a command does anything."""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from types import ModuleType

from packaging.requirements import Requirement

from triptych_trainer.errors import IncompatibleVersionError

__all__ = ["PACKAGES", "check_torchvision", "check_versions", "import_checked", "requirements_of"]

PACKAGES = ("triptych-trainer", "triptych-data", "triptych-kernels")
MAY_BE_MISSING = {"torchvision"}
"""Required so that everybody gets it, and yet not needed: processors work without it (`triptych_data.image_only`)."""


def import_checked(module: str) -> ModuleType:
    """Import a module of Triptych that brings the libraries below it, after a look at their versions.

    Raises:
        IncompatibleVersionError: says which library is outside its bounds, or that torchvision cannot be imported.
    """
    check_versions()
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError):
        check_torchvision()
        raise


def check_versions(
    requirements: Iterable[tuple[str, Requirement]] | None = None,
    *,
    installed: Callable[[str], str] = importlib.metadata.version,
) -> None:
    """Compare every installed library with the bounds of the package that requires it.

    The bounds are the ones of each package's ``pyproject.toml``, as they were installed with it.

    Raises:
        IncompatibleVersionError: names the package, the bounds, the installed version and the command that mends it.
    """
    for package, requirement in requirements_of(PACKAGES) if requirements is None else requirements:
        try:
            version = installed(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            if requirement.name in MAY_BE_MISSING:
                continue
            raise IncompatibleVersionError(
                f"{package} needs {requirement}, which is not installed; pip install '{requirement}'"
            ) from None
        if not requirement.specifier.contains(version, prereleases=True):
            raise IncompatibleVersionError(
                f"{package} works with {requirement}, but {requirement.name} {version} is installed; "
                f"pip install '{requirement}'"
            )


def check_torchvision() -> None:
    """Check that torchvision can be imported where it is installed; transformers does not say so when it cannot.

    Raises:
        IncompatibleVersionError: names both versions, the reason and two ways out. A torchvision for another torch, or
            for CUDA together with a torch for CPUs, ends in such an error.
    """
    try:
        version = importlib.metadata.version("torchvision")
        importlib.import_module("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    except Exception as error:  # whatever stops its import stops that of transformers too
        raise IncompatibleVersionError(
            f"torchvision {version} cannot be imported together with torch {importlib.metadata.version('torch')} "
            f"({' '.join(str(error).split())}); install the torchvision that was built for this torch, or none: "
            "pip uninstall torchvision"
        ) from error


def requirements_of(packages: Iterable[str]) -> list[tuple[str, Requirement]]:
    """Return what the named packages require on this machine, extras and other Triptych packages left out."""
    found = []
    for package in packages:
        try:
            lines = importlib.metadata.requires(package) or []
        except importlib.metadata.PackageNotFoundError:  # run from its sources, without being installed
            continue
        for requirement in map(Requirement, lines):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and not requirement.name.startswith("triptych-"):
                found.append((package, requirement))
    return found
