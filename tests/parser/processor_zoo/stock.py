"""Classes of transformers by the folder of their model, and processor classes without their video branch."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any


def stock(folder: str, name: str) -> Any:
    """A processor or image processor class; of image processors the one that needs no torchvision, where there is one.

    ImportError says what the class needs that is not installed.
    """
    reason = f"transformers has no {name}"
    for kind in ("processing", "image_processing_pil", "image_processing"):
        try:
            found = getattr(importlib.import_module(f"transformers.models.{folder}.{kind}_{folder}"), name, None)
        except ImportError as error:
            reason = str(error)
        else:
            if found is not None:
                return found
    raise ImportError(reason)


def images_only(cls: type, *attributes: str) -> type:
    """The stock processor class without its video branch, which needs torchvision.

    `attributes` are those that the class hands on; they may then be None.
    """
    body: dict[str, Any] = {
        "get_attributes": classmethod(lambda cls: list(attributes or ("image_processor", "tokenizer"))),
        "video_processor": SimpleNamespace(num_frames=1, fps=1.0),
    }
    if attributes:
        body["check_argument_for_proper_class"] = lambda self, name, argument: None
    return type(f"ImagesOnly{cls.__name__}", (cls,), body)
