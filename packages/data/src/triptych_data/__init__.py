"""Multi-image records, safe images and budgets for vision-language training."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych_data.budget import Budget
    from triptych_data.errors import DataError, ImageError
    from triptych_data.example import Example, ImageSource
    from triptych_data.examples import Examples
    from triptych_data.header import probe_image
    from triptych_data.images import ImageLoader
    from triptych_data.pixels import load_image, load_thumbnail
    from triptych_data.policy import ImagePolicy
    from triptych_data.read import read_examples
    from triptych_data.vision import ImageTargets, VisionSpec

__all__ = [
    "Budget",
    "DataError",
    "Example",
    "Examples",
    "ImageError",
    "ImageLoader",
    "ImagePolicy",
    "ImageSource",
    "ImageTargets",
    "VisionSpec",
    "load_image",
    "load_thumbnail",
    "probe_image",
    "read_examples",
]

_HOMES = {
    "budget": ("Budget",),
    "errors": ("DataError", "ImageError"),
    "example": ("Example", "ImageSource"),
    "header": ("probe_image",),
    "images": ("ImageLoader",),
    "pixels": ("load_image", "load_thumbnail"),
    "policy": ("ImagePolicy",),
    "examples": ("Examples",),
    "read": ("read_examples",),
    "vision": ("ImageTargets", "VisionSpec"),
}


def __getattr__(name: str) -> Any:
    # numpy and Pillow take half a second, and the help of a command needs neither: load a home when it is asked for.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"triptych_data.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
