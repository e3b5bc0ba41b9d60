"""The versions that a run or a bug report is about."""

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["PACKAGES", "installed_versions", "machine"]

PACKAGES = (
    *("triptych-parser", "triptych-kernels", "triptych-data", "triptych-trainer"),
    *("torch", "torchvision", "transformers", "trl", "accelerate", "peft", "datasets", "pillow", "vllm", "deepspeed"),
)


def installed_versions() -> dict[str, str]:
    """Return the version of every package that matters and is installed."""
    return {name: found for name in PACKAGES if (found := _version(name)) is not None}


def machine() -> dict[str, str]:
    """Return the versions of Python and of the system it runs on."""
    return {"python": platform.python_version(), "platform": platform.platform()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
