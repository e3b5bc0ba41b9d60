"""A folder or hub id that contains adapters of a model, and the name of that model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from triptych_data.errors import UsageError

__all__ = ["AdapterFolder", "adapter_folder"]

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFolder:
    """Contains the folder of adapters, and the name of the model that they belong to."""

    path: str
    base: str
    """Folder or hub id of the model."""
    base_revision: str | None


def adapter_folder(path: str, *, revision: str | None = None, option: str = "--model") -> AdapterFolder | None:
    """Return what PEFT wrote into a folder, or None for one that contains a model of its own.

    UsageError: its adapter_config.json cannot be read, or names no model or one with adapters of its own, or the folder
    contains a whole model as well.
    """
    file = _config_file(path, revision)
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
    _check_base(base, file=file, what=f"{option} {path}")
    _check_only_adapters(Path(file).parent, str(base), described.get("revision"), what=f"{option} {path}")
    return AdapterFolder(path=path, base=str(base), base_revision=described.get("revision"))


def _check_base(base: object, *, file: str, what: str) -> None:
    """Refuse a base model that is neither a folder that exists nor the name of a repository."""
    if isinstance(base, str) and (Path(base).is_dir() or _HUB_NAME.fullmatch(base)):
        return
    raise UsageError(
        f"{what}: its adapters are for the model {base!r}, which is neither a folder that exists (looked from "
        f"{Path.cwd()}) nor a hub id such as owner/name; write where that model is into {file}, as "
        "base_model_name_or_path"
    )


def _config_file(path: str, revision: str | None) -> str | None:
    if Path(path).is_dir():
        file = Path(path) / "adapter_config.json"
        return str(file) if file.is_file() else None
    from transformers.utils import cached_file  # a folder of this machine does without its seconds

    try:
        return cached_file(
            path,
            "adapter_config.json",
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):  # no such folder or hub id: whoever loads the model says so
        return None


def _check_only_adapters(folder: Path, base: str, revision: str | None, *, what: str) -> None:
    """Refuse two models in one place: only one would be loaded, and which one depends on the library."""
    whole = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if whole is not None:
        raise UsageError(
            f"{what}: expected a model or adapters, got both, {whole} and adapter_config.json; put the adapters into a "
            "folder of their own, or remove adapter_config.json if the weights contain them already"
        )
    if Path(base).is_dir() and folder.samefile(base):
        raise UsageError(
            f"{what}: its adapter_config.json names the folder itself as the model that the adapters are for; write "
            "the name of that model there, as base_model_name_or_path"
        )
    if _config_file(base, revision) is not None:
        raise UsageError(
            f"{what}: its adapters are for {base}, which contains adapters itself, and these would be replaced; merge "
            f"them first (triptych merge {base} -o FOLDER), and write that folder into adapter_config.json as "
            "base_model_name_or_path"
        )
