"""Load a model folder or hub id: the processor first, because it is cheap and data is checked with it."""

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from triptych_data.adapter_folder import adapter_folder
from triptych_data.model_tokens import set_pixels
from triptych_data.options import ModelOptions, PromptOptions
from triptych_data.processors import is_of_config
from triptych_data.processors import load_processor as load_stock_processor
from trl import ModelConfig, get_quantization_config

from triptych_trainer.errors import UsageError
from triptych_trainer.models.adapters import (
    check_merge,
    check_quantization,
    check_stored_quantization,
    outside_language_model,
    with_adapters,
)
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.models.whole import check_is_whole

__all__ = [
    "chosen_processor",
    "freeze_vision_modules",
    "is_about_memory",
    "load_model",
    "load_processor",
    "model_without_weights",
]


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

    Raises:
        UsageError: the folder has no processor of images, its token ids are not those that are written here, or its
            image processor knows no pixel budget.
    """
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    options |= {"padding_side": "left", "truncation_side": "left"}
    processor = load_stock_processor(path, option=option, needs_images=needs_images, **options)
    if getattr(processor, "image_processor", None) is None:
        return processor
    set_pixels(processor.image_processor, min_pixels=min_pixels, max_pixels=max_pixels)
    return processor


def chosen_processor(path: str, loading: ModelOptions, prompt: PromptOptions, *, option: str) -> Any:
    """Load the processor that a command line chooses by its options of the model and of the prompts."""
    return load_processor(
        path,
        revision=loading.model_revision,
        trust_remote_code=loading.trust_remote_code,
        min_pixels=prompt.min_pixels,
        max_pixels=prompt.max_pixels,
        option=option,
    )


def load_model(
    path: str,
    config: ModelConfig,
    *,
    trust_remote_code: bool = False,
    merge_adapter: bool = False,
    option: str = "--model_name_or_path",
) -> torch.nn.Module:
    """Load an image-text-to-text model in the configured dtype and attention, its language model quantized if asked.

    A folder of adapters gives its model with them on it, to be trained further, or with ``merge_adapter`` one model
    whose weights contain them, to be trained as any other.

    Raises:
        UsageError: nothing at ``path`` can be loaded, or there is nothing to merge, or nothing to merge into.
    """
    adapters = adapter_folder(path, revision=config.model_revision, option=option)
    check_merge(path, config, merge_adapter=merge_adapter, has_adapters=adapters is not None)
    check_quantization(config, continued=adapters is not None)
    what = f"{option} {path}" if adapters is None else f"{option} {path}: base model {adapters.base}"
    revision = config.model_revision if adapters is None else adapters.base_revision
    stored = _stored_quantization(
        path if adapters is None else adapters.base, revision=revision, trust_remote_code=trust_remote_code
    )
    check_stored_quantization(stored, config, what=what, merge=merge_adapter)
    if adapters is None:
        return _load_whole(path, config, trust_remote_code=trust_remote_code, option=option)
    config = replace(config, model_revision=adapters.base_revision)
    model = _load_whole(
        adapters.base, config, trust_remote_code=trust_remote_code, option=f"{option} {path}: base model"
    )
    return with_adapters(model, path, merge=merge_adapter, option=option)


def _load_whole(path: str, config: ModelConfig, *, trust_remote_code: bool, option: str) -> torch.nn.Module:
    quantization = get_quantization_config(config)
    dtype = config.dtype if config.dtype in (None, "auto") else getattr(torch, config.dtype)
    try:
        if quantization:
            quantization.llm_int8_skip_modules = _not_quantized(path, config, trust_remote_code=trust_remote_code)
        model, found = AutoModelForImageTextToText.from_pretrained(
            path,
            revision=config.model_revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=config.attn_implementation,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in a sentence
            **({"quantization_config": quantization} if quantization else {}),
        )
    except Exception as error:  # sizes of a config that do not fit together fail anywhere in a model's code
        if is_about_memory(error):
            raise
        raise UsageError(f"{option} {path}: no model can be loaded: {_one_line(error)}; {_REMEDY}") from error
    check_is_whole(model, missing=found["missing_keys"], mismatched=found["mismatched_keys"], what=f"{option} {path}")
    return model


def is_about_memory(error: BaseException) -> bool:
    """Return whether a device or the host has no memory left, or a device has failed: errors that no input explains."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")
        or any(words in text for words in ("not enough memory", "out of memory", "allocate memory", "CUDA error"))
    )


def _stored_quantization(path: str, *, revision: str | None, trust_remote_code: bool) -> Any:
    """How the weights of a folder or hub id are quantized in its files; None where they are not."""
    try:
        described = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:
        if not isinstance(error, (OSError, ValueError, ImportError)) and not is_of_config(error):
            raise
        return None  # loading says what is wrong with it
    return getattr(described, "quantization_config", None)


def _not_quantized(path: str, config: ModelConfig, *, trust_remote_code: bool) -> list[str]:
    """Names of what stays in full precision: all but the language model's layers, read from a model without weights."""
    described = AutoConfig.from_pretrained(path, revision=config.model_revision, trust_remote_code=trust_remote_code)
    return outside_language_model(
        model_without_weights(described, trust_remote_code=trust_remote_code, option=f"--model_name_or_path {path}")
    )


def model_without_weights(
    described: Any,
    *,
    trust_remote_code: bool,
    option: str,
    dtype: torch.dtype | None = None,
    attention: str | None = None,
) -> Any:
    """Build the model of a config on no device; ``attention`` is an implementation's name, None for the default.

    Raises:
        UsageError: the config is that of another kind of model, or its sizes do not fit together.
    """
    given = {"dtype": dtype, "attn_implementation": attention}
    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(
                described,
                trust_remote_code=trust_remote_code,
                **{name: value for name, value in given.items() if value is not None},
            )
    except Exception as error:  # sizes that do not fit together fail anywhere in a model's code
        raise UsageError(f"{option}: no model can be built from its config: {_one_line(error)}; {_REMEDY}") from error


def freeze_vision_modules(model: torch.nn.Module) -> int:
    """Stop training everything outside the language model and its head; return the number of frozen parameters.

    Raises:
        UsageError: the model does not say which part is its language model.
    """
    try:
        base = unwrap(model)
        family = family_of(base)
        outside = family.vision_parameters(family.vision_language_model(base))
    except AttributeError as error:
        raise UsageError(
            f"--freeze_vision_modules: {type(model).__name__} does not say which part of it is the language model; "
            "leave the option out, or write an adapter (docs/add-a-family.md)"
        ) from error
    for parameter in outside:
        parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in outside)


_REMEDY = "name a whole folder or hub id of a model for images and text, or copy its files again"


def _one_line(error: Exception) -> str:
    reason, _, known = " ".join(str(error).split()).rstrip(".").partition(" Model type should be one of ")
    return f"{reason} It is none of the {known.count(',') + 1} types for images and text" if known else reason
