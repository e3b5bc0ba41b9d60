"""What the types of a dataset's columns say: which files stay encoded, and how the values of a row are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triptych_data.errors import DataError

_FILES = ("Image", "Video", "Audio", "Pdf", "Nifti", "Mesh")
_KEPT_MODES = (None, "RGB", "RGBA")
Rewriting = Callable[[Any], Any]


def undecoded(feature: Any, datasets: Any) -> Any:
    """Return the same features with every image, video, sound and other file, however deep, left encoded."""
    files: Any = tuple(getattr(datasets, name) for name in _FILES if hasattr(datasets, name))
    if isinstance(feature, files):
        return dataclasses.replace(feature, decode=False)
    if isinstance(feature, Mapping):
        return {name: undecoded(inner, datasets) for name, inner in feature.items()}
    if isinstance(feature, list):
        return [undecoded(inner, datasets) for inner in feature]
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return dataclasses.replace(feature, feature=undecoded(feature.feature, datasets))
    return feature


def check_modes(feature: Any, datasets: Any, *, source: str, column: str = "") -> None:
    """Raise DataError for an image column with a mode that changes its colours: images are read as RGB."""
    if isinstance(feature, datasets.Image) and feature.mode not in _KEPT_MODES:
        raise DataError(
            f"expected a column of images without a mode, got Image(mode={feature.mode!r}) for {column}",
            source=source,
            remedy=f"convert the images (dataset.map), and then dataset.cast_column({column!r}, datasets.Image())",
        )
    for name, inner in feature.items() if isinstance(feature, Mapping) else ():
        check_modes(inner, datasets, source=source, column=column or name)
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        check_modes(feature.feature, datasets, source=source, column=column)


def rewriting(feature: Any, datasets: Any) -> Rewriting | None:
    """Return how a value of this type is written in a row, or None where it stays as it is.

    A class label is the name of its class, however deep, and None where it has none (-1). A number of 32 or 16 bits is
    the shortest one that it may have been written as: 0.1, and not 0.10000000149011612.
    """

    def written(leaf: Any) -> Rewriting | None:
        if isinstance(leaf, datasets.ClassLabel):
            names = leaf.names
            return lambda number: names[number] if number >= 0 else None
        if isinstance(leaf, datasets.Value) and leaf.dtype in ("float32", "float16"):
            kind = np.dtype(leaf.dtype).type
            return lambda number: float(str(kind(number)))
        return None

    return _through(feature, written)


def json_reading(feature: Any, datasets: Any) -> Rewriting | None:
    """Return how a value that Arrow stores as JSON text is read, however deep, or None where the type has none.

    `map` makes this type of lists whose items have different keys, such as the content parts of a message.
    """
    is_json = getattr(datasets, "Json", ())
    return _through(feature, lambda leaf: leaf.decode_example if isinstance(leaf, is_json) and leaf.decode else None)


def _through(feature: Any, change: Callable[[Any], Rewriting | None]) -> Rewriting | None:
    """How a value is changed whose type, or a type inside it, `change` knows; None where it knows none of them."""
    if (found := change(feature)) is not None:
        return found
    if isinstance(feature, Mapping):
        inner = {name: found for name in feature if (found := _through(feature[name], change)) is not None}
        return _in_mapping(inner) if inner else None
    kept = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    each = None if kept is None else _through(kept, change)
    return None if each is None else _in_list(each)


def _in_mapping(inner: Mapping[str, Rewriting]) -> Rewriting:
    return lambda values: {
        name: inner[name](value) if name in inner and value is not None else value for name, value in values.items()
    }


def _in_list(each: Rewriting) -> Rewriting:
    return lambda values: [value if value is None else each(value) for value in values]
