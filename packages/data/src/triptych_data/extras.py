"""Libraries that only an extra installs: imported where they are needed, with one sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from triptych_data.errors import UsageError


def needed(package: str, *, extra: str, doing: str) -> Any:
    """Import a library of an extra; UsageError says what needs it and how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise UsageError(f"{doing} needs {error.name}: pip install 'triptych-data[{extra}]'") from error
