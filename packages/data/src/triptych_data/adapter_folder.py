"""A folder or hub id that contains adapters of a model, and the name of that model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from triptych_data.errors import UsageError

__all__ = ["AdapterFolder", "adapter_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFolder:
    """Contains the folder of adapters, and the name of the model that they belong to."""

    path: str
    base: str
    """Folder or hub id of the model."""
    base_revision: str | None


def adapter_folder(path: str, *, revision: str | None = None, option: str = "--model") -> AdapterFolder | None:
    """Return what PEFT wrote into a folder, or None for one that contains a model of its own.

    UsageError: its adapter_config.json cannot be read, or names no model.
    """
    from transformers.utils import cached_file

    try:
        file = cached_file(
            path,
            "adapter_config.json",
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # no such folder or hub id: whoever loads the model says so
        return None
    if file is None:
        return None
    try:
        described = json.loads(Path(file).read_text(encoding="utf-8"))
        base = described["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{option} {path}: its adapter_config.json cannot be read ({type(error).__name__}: {error}); save the "
            "adapters again"
        ) from error
    if not base:
        raise UsageError(
            f"{option} {path}: its adapter_config.json does not name the model that the adapters are for; write it "
            "there as base_model_name_or_path"
        )
    return AdapterFolder(path=path, base=str(base), base_revision=described.get("revision"))
