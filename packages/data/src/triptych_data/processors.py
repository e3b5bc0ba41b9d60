"""A model's processor from its folder or hub id: the stock one, or its image side where that is all there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from triptych_parser import MarkerError, check_processor
from triptych_parser.expanders import expander_of

from triptych_data.adapter_folder import adapter_folder
from triptych_data.errors import UsageError
from triptych_data.model_files import check_model_files, is_of_config
from triptych_data.model_name import check_model_name

__all__ = ["is_of_config", "load_processor"]

_REFUSALS = (ImportError, OSError, ValueError, TypeError, AttributeError, KeyError)
"""How transformers refuses a folder whose files are missing or do not fit together."""


def load_processor(path: str, *, option: str = "--model", needs_images: bool = True, **options: Any) -> Any:
    """Load a processor that takes images; `option` is what errors call the path, `options` go to transformers.

    Without `needs_images` it may be what transformers makes of a model that takes none: a tokenizer.
    Where the stock class cannot be built because torchvision or the folder's video configuration is missing, the same
    class is built without its video branch: token ids and pixels of images are the same. A folder of adapters without a
    processor has that of its model.

    UsageError names why there is no processor, or where its ids would differ from those that are written here.
    """
    try:
        from transformers import AutoProcessor
    except ImportError as error:
        raise UsageError(f"{option} needs transformers: pip install transformers") from error
    check_model_name(path, option=option)
    check_model_files(path, option=option, trust_remote_code=bool(options.get("trust_remote_code")))
    try:
        processor = AutoProcessor.from_pretrained(path, **options)
    except Exception as error:
        if not isinstance(error, _REFUSALS) and not is_of_config(error):
            raise
        processor = _image_only(path, options, option=option, refused=error)
    if needs_images and getattr(processor, "image_processor", None) is None:
        refused = ValueError(f"its files make a {type(processor).__name__}, which takes no images")
        processor = _image_only(path, options, option=option, refused=refused)
    if getattr(processor, "image_processor", None) is not None:
        try:
            with _without_advice():
                check_processor(processor)
            _try_settings(processor)
        except MarkerError as error:
            raise UsageError(f"{option} {path}: {error.summary}") from error
        except Exception as error:  # settings that do not fit together fail anywhere in the stock code
            if isinstance(error, MemoryError):
                raise
            raise UsageError(
                f"{option} {path}: {type(processor).__name__} fails with its own settings "
                f"({type(error).__name__}: {' '.join(str(error).split())}); correct them in processor_config.json or "
                "preprocessor_config.json, or take these files from the model's own folder"
            ) from error
    return processor


def _try_settings(processor: Any) -> None:
    """Count the tokens of a common image, which fails in the stock code where its settings do not fit together."""
    with suppress(MarkerError):  # what it says is said of the first row with an image
        expander_of(processor).expand([(224, 224)])


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep back what transformers says of the image decoders it could use instead."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _image_only(path: str, options: dict[str, Any], *, option: str, refused: Exception) -> Any:
    from triptych_data.image_only import load_image_only

    try:
        return load_image_only(path, **options)
    except Exception as error:
        if not isinstance(error, _REFUSALS) and not is_of_config(error):
            raise
        adapters = adapter_folder(path, revision=options.get("revision"), option=option)
        if adapters is not None:
            options = {**options, "revision": adapters.base_revision}
            return load_processor(adapters.base, option=f"{option} {path}: base model", **options)
        raise UsageError(f"{option} {path}: no processor can be loaded: {_reason(path, refused)}") from refused


def _reason(path: str, refused: Exception) -> str:
    """The first sentence of what transformers says, whose messages are long, and what to do."""
    from transformers.utils import is_torchvision_available

    reason = re.split(r"(?<=[\w'\"])\. (?=[A-Z])", " ".join(str(refused).split()), maxsplit=1)[0].rstrip(".")
    if not is_torchvision_available():
        return f"{reason}; torchvision is not installed, and some processors need it: pip install torchvision"
    return f"{reason}; give a model that can be read from here and comes with an image processor"
