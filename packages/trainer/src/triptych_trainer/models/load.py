"""Load a model folder or hub id: the processor first, because it is cheap and data is checked with it."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import cached_file
from triptych_data.model_tokens import set_pixels
from triptych_parser import MarkerError, check_processor
from trl import ModelConfig, get_quantization_config

from triptych_trainer.errors import UsageError
from triptych_trainer.models.adapters import check_quantization, outside_language_model
from triptych_trainer.models.families import family_of
from triptych_trainer.models.image_only import image_only_processor

__all__ = ["freeze_vision_modules", "load_model", "load_processor"]


def load_processor(
    path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    option: str = "--model_name_or_path",
    needs_images: bool = True,
) -> Any:
    """Load the processor of a model and set its pixel budget; ``option`` is what errors call the path.

    Without ``needs_images`` a model that takes no images gets its tokenizer alone.

    Where the stock class cannot be built because its video branch needs torchvision, the same processor is built
    without that branch: token ids and pixels of images are the same.

    Raises:
        UsageError: the folder holds no processor, its token ids are not those that are written here, or its image
            processor knows no pixel budget.
    """
    if path.startswith((".", "/", "~")) and not Path(path).is_dir():  # a hub id is asked for over the network
        raise UsageError(f"{option} {path}: no such folder (looked from {Path.cwd()})")
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        processor = AutoProcessor.from_pretrained(path, padding_side="left", truncation_side="left", **options)
    except (ImportError, OSError, ValueError) as error:
        try:
            processor = _without_video(path, options)
        except (ImportError, OSError, ValueError, KeyError):
            raise UsageError(f"{option} {path}: no processor can be loaded: {_one_line(error)}") from error
    if getattr(processor, "image_processor", None) is None:
        if not needs_images:
            return processor
        raise UsageError(f"{option} {path}: {type(processor).__name__} takes no images")
    set_pixels(processor.image_processor, min_pixels=min_pixels, max_pixels=max_pixels)
    try:
        check_processor(processor)
    except MarkerError as error:
        raise UsageError(f"{option} {path}: {error.summary}") from error
    return processor


def load_model(
    path: str, config: ModelConfig, *, trust_remote_code: bool = False, option: str = "--model_name_or_path"
) -> torch.nn.Module:
    """Load an image-text-to-text model in the configured dtype and attention, its language model quantized if asked.

    Raises:
        UsageError: nothing at ``path`` can be loaded.
    """
    check_quantization(config)
    quantization = get_quantization_config(config)
    dtype = config.dtype if config.dtype in (None, "auto") else getattr(torch, config.dtype)
    try:
        if quantization:
            quantization.llm_int8_skip_modules = _not_quantized(path, config, trust_remote_code=trust_remote_code)
        return AutoModelForImageTextToText.from_pretrained(
            path,
            revision=config.model_revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=config.attn_implementation,
            dtype=dtype,
            **({"quantization_config": quantization} if quantization else {}),
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path}: no model can be loaded: {_one_line(error)}") from error


def _not_quantized(path: str, config: ModelConfig, *, trust_remote_code: bool) -> list[str]:
    """Names of what stays in full precision: all but the language model's layers, told from a model without weights."""
    described = AutoConfig.from_pretrained(path, revision=config.model_revision, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(described, trust_remote_code=trust_remote_code)
    return outside_language_model(model)


def freeze_vision_modules(model: torch.nn.Module) -> int:
    """Stop training everything outside the language model and its head; return the number of frozen parameters.

    Raises:
        UsageError: the model does not say which part is its language model.
    """
    try:
        family = family_of(model)
        outside = family.vision_parameters(family.vision_language_model(model))
    except AttributeError as error:
        raise UsageError(
            f"--freeze_vision_modules: {type(model).__name__} has no language model to tell apart"
        ) from error
    for parameter in outside:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in outside)


def _without_video(path: str, options: dict[str, Any]) -> Any:
    return image_only_processor(
        _processor_class_name(path, options["revision"]),
        image_processor=AutoImageProcessor.from_pretrained(path, **options),
        tokenizer=AutoTokenizer.from_pretrained(path, padding_side="left", truncation_side="left", **options),
        chat_template=_chat_template(path, options["revision"]),
    )


def _processor_class_name(path: str, revision: str | None) -> str:
    file = cached_file(path, "processor_config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    if file is not None:
        named = json.loads(Path(file).read_text(encoding="utf-8")).get("processor_class")
        if named:
            return str(named)
    return f"{AutoConfig.from_pretrained(path, revision=revision).model_type}"


def _chat_template(path: str, revision: str | None) -> str | None:
    for name in ("chat_template.jinja", "chat_template.json"):
        file = cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            text = Path(file).read_text(encoding="utf-8")
            return text if name.endswith(".jinja") else str(json.loads(text)["chat_template"])
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
