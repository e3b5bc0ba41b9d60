"""The config files of a model's folder, which a run reads next to the processor."""

from __future__ import annotations

import json
from pathlib import Path

from triptych_data.errors import UsageError

__all__ = ["check_model_files", "is_of_config"]


def check_model_files(path: str, *, option: str, trust_remote_code: bool = False) -> None:
    """Check that a folder with weights has a config of a known type of model, and that it says how texts end.

    A folder of a processor alone, or of adapters, passes, and so does a hub id.

    UsageError names the file and what is wrong with it.
    """
    folder = Path(path)
    if not folder.is_dir() or (folder / "adapter_config.json").is_file():
        return
    generation = folder / "generation_config.json"
    if generation.is_file():
        _check_object(generation, option=option)
    config = folder / "config.json"
    if not config.is_file():
        if any(folder.glob("*.safetensors")):
            raise UsageError(f"{option} {path}: the folder has weights, but no config.json; copy it from the model")
        return
    _check_object(config, option=option)
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # its validation has classes of its own
        reason = " ".join(str(error).split()).partition(" but Transformers does not recognize")[0].rstrip(".")
        raise UsageError(
            f"{option} {path}: transformers refuses its config.json: {reason}; correct it, or give another model"
        ) from error


def is_of_config(error: Exception) -> bool:
    """Return whether an error says that the values of a config.json do not fit together; the class of this error is its
    own.
    """
    return type(error).__name__.startswith("StrictDataclass")


def _check_object(file: Path, *, option: str) -> None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{option} {file}: not valid JSON ({error}); copy it from the model again") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{option} {file}: expected a JSON object, got {type(content).__name__}; copy it from the model again"
        )
