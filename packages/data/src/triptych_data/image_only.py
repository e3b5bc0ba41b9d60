"""Stock processors without their video branch, for machines without torchvision and folders without that branch.

Token ids and pixels of images are the same. What the folder says of the left-out part is kept unread and written again
at a save, so that the saved folder loads as the stock class where torchvision is installed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import transformers
from transformers import AutoConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.video_processing_utils import BaseVideoProcessor

__all__ = ["image_only_class", "image_only_processor", "load_image_only"]

VIDEO = "video_processor"
_SHARED_WITH_IMAGES = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")


class _VideoSettings(SimpleNamespace):
    """The settings of the video branch in the folder, as attributes; a setting that is missing is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _WithoutVideo(ProcessorMixin):
    """Lies between a stock class and the mixin below it, and takes the video branch out of what the class hands on."""

    video_configuration: Mapping[str, Any] = {}
    """The entry of `processor_config.json` for the video branch."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        stock: Any = type(self).__bases__[0]
        given = dict(zip(stock.get_attributes(), parts, strict=False)) | named
        super().__init__(**{name: part for name, part in given.items() if name != VIDEO})

    @property
    def video_processor(self) -> _VideoSettings:
        return _VideoSettings(**self.video_configuration)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), VIDEO: dict(self.video_configuration)}


@functools.cache
def image_only_class(stock: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a subclass of a stock processor class without its video branch; it carries the stock name.

    ValueError: the class has no video branch.
    """
    if VIDEO not in stock.get_attributes():
        raise ValueError(f"{stock.__name__} has no video branch that could be left out")

    class ImageOnly(stock, _WithoutVideo):  # type: ignore[misc, valid-type]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in stock.get_attributes() if name != VIDEO]

        @classmethod
        def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **options: Any) -> Any:
            """As the stock method, which counts on the positions of its own arguments."""
            parts = dict(zip(cls.get_attributes(), args, strict=True))
            accepted = set(inspect.signature(stock.__init__).parameters) - set(stock.get_attributes())
            settings = {name: value for name, value in {**processor_dict, **options}.items() if name in accepted}
            return _build(cls, parts, settings, video=processor_dict.get(VIDEO))

    ImageOnly.__name__, ImageOnly.__qualname__ = stock.__name__, stock.__qualname__
    return ImageOnly


def image_only_processor(name: str, *, image_processor: Any, tokenizer: Any, **settings: Any) -> Any:
    """Build a processor from its parts; `name` is a processor class or a model type.

    ImportError: transformers has no such processor. ValueError: it has no video branch to leave out.
    """
    parts = {"image_processor": image_processor, "tokenizer": tokenizer}
    return _build(image_only_class(_stock_class(name)), parts, settings, video=None)


def load_image_only(path: str, **options: Any) -> Any:
    """Load the image side of the processor of a folder or hub id; `options` go to transformers.

    ImportError, OSError or ValueError says what is missing.
    """
    revision = {name: options[name] for name in ("revision",) if options.get(name) is not None}
    settings, _ = ProcessorMixin.get_processor_dict(path, **revision)
    name = settings.get("processor_class") or AutoConfig.from_pretrained(path, **options).model_type
    processor = image_only_class(_stock_class(name)).from_pretrained(path, **options)
    try:
        found, _ = BaseVideoProcessor.get_video_processor_dict(path, **revision)
    except OSError:
        return processor
    entry = {key: value for key, value in found.items() if key not in ("image_processor_type", "processor_class")}
    processor.video_configuration = {**_video_entry(processor, only_type=True), **entry}
    return processor


def _build(cls: Any, parts: dict[str, Any], settings: dict[str, Any], *, video: Mapping[str, Any] | None) -> Any:
    template = settings.pop("chat_template", None) or getattr(parts["tokenizer"], "chat_template", None)
    processor = cls(**parts, **{VIDEO: None}, **settings, chat_template=template)
    processor.video_configuration = dict(video or _video_entry(processor))
    return processor


def _stock_class(name: str) -> Any:
    class_name = PROCESSOR_MAPPING_NAMES.get(name, name)
    stock = getattr(transformers, class_name, None)
    if stock is None:
        raise ImportError(f"transformers {transformers.__version__} has no processor {class_name!r}")
    return stock


def _video_entry(processor: Any, *, only_type: bool = False) -> dict[str, Any]:
    """The least that the stock class needs for its video branch: its type, and what it has to share with images.

    The type follows transformers' own names: the processor's, or the image processor's where there is none such.
    """
    images = processor.image_processor
    guesses = [type(processor).__name__.replace("Processor", "VideoProcessor")]
    guesses.append(type(images).__name__.removesuffix("Pil").removesuffix("Fast").replace("ImageP", "VideoP"))
    known = [{"video_processor_type": guess} for guess in guesses if hasattr(transformers, guess)]
    entry: dict[str, Any] = dict(*known[:1])
    if not only_type:
        shared = {name: getattr(images, name, None) for name in _SHARED_WITH_IMAGES}
        entry |= {name: value for name, value in shared.items() if value is not None}
    return entry
