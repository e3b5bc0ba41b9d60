"""The versions that Triptych's packages ask for, compared with the installed ones before a command does anything."""

import importlib.metadata
from collections.abc import Callable, Iterable

from packaging.requirements import Requirement

from triptych_trainer.errors import SeamError

__all__ = ["PACKAGES", "check_versions", "requirements_of"]

PACKAGES = ("triptych-trainer", "triptych-data", "triptych-kernels")


def check_versions(
    requirements: Iterable[tuple[str, Requirement]] | None = None,
    *,
    installed: Callable[[str], str] = importlib.metadata.version,
) -> None:
    """Compare every installed library with the bounds of the package that requires it.

    The bounds are the ones of each package's ``pyproject.toml``, as they were installed with it.

    Raises:
        SeamError: names the package, the bounds, the installed version and the command that mends it.
    """
    for package, requirement in requirements_of(PACKAGES) if requirements is None else requirements:
        try:
            version = installed(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            raise SeamError(
                f"{package} needs {requirement}, which is not installed; pip install '{requirement}'"
            ) from None
        if not requirement.specifier.contains(version, prereleases=True):
            raise SeamError(
                f"{package} works with {requirement}, but {requirement.name} {version} is installed; "
                f"pip install '{requirement}'"
            )


def requirements_of(packages: Iterable[str]) -> list[tuple[str, Requirement]]:
    """What the named packages require on this machine, extras and other Triptych packages left out."""
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
