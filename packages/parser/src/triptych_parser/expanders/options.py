"""What a processor's call is told about images when nobody says otherwise, in every supported transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["call_defaults", "output_size", "own_function", "read_option", "side"]


def call_defaults(processor: Any, kind: str) -> dict[str, Any]:
    """Return the defaults of a processor's call for one kind of its arguments ("images_kwargs", "text_kwargs").

    From transformers 5.23 on they are an attribute of the processor; before, and in older code from the hub, they are
    in the `_defaults` of its `valid_processor_kwargs`, which still come first.
    """
    older = getattr(getattr(processor, "valid_processor_kwargs", None), "_defaults", None) or {}
    newer = getattr(processor, kind, None) or {}
    return {**newer, **older.get(kind, {}), **older.get("common_kwargs", {})}


def read_option(processor: Any, options: Mapping[str, Any], name: str) -> Any:
    """Return an option of the image step: that of the call, or else that of the image processor."""
    value = options.get(name)
    return getattr(processor.image_processor, name, None) if value is None else value


def side(size: Any, name: str) -> int | None:
    """Return one entry of a size ("height", "shortest_edge", ...), or None if the size does not have it."""
    value = size.get(name) if isinstance(size, Mapping) else getattr(size, name, None)
    return None if value is None else int(value)


def output_size(processor: Any, options: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) of an image after the usual steps: a resize to a size or a shortest edge, then a
    centre crop.
    """
    if read_option(processor, options, "do_center_crop"):
        crop = read_option(processor, options, "crop_size")
        return side(crop, "height") or height, side(crop, "width") or width
    if not read_option(processor, options, "do_resize"):
        return height, width
    size = read_option(processor, options, "size")
    shortest = side(size, "shortest_edge")
    if shortest is None:
        return side(size, "height") or height, side(size, "width") or width
    longest = int(shortest * max(height, width) / min(height, width))
    return (shortest, longest) if height <= width else (longest, shortest)


def own_function(owner: Any, name: str) -> Callable[..., Any]:
    """Return a function of the module in which an object's class is defined, so that its arithmetic is used and not
    copied.
    """
    for cls in type(owner).__mro__:
        found = getattr(sys.modules.get(cls.__module__), name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise AttributeError(f"the module of {type(owner).__name__} has no function {name}")
