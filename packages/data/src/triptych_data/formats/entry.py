"""The keys that one entry of an image column may have, in every format."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from triptych_data.formats.columns import is_empty
from triptych_data.formats.input_names import plain_name
from triptych_data.formats.record import RowError

SOURCES = ("bytes", "path", "image", "url", "image_path", "img", "base64")
LIMITS = ("min_pixels", "max_pixels", "resized_height", "resized_width")
ENTRY_KEYS = (*SOURCES, *LIMITS)
PLACES_OF_IMAGES = frozenset(
    {"data", "value", "content", "source", "src", "file", "uri", "image_bytes", "image_base64"}
)
"""Where other projects write the image itself."""
_LOWER_TO_UPPER = re.compile("(?<=[a-z])(?=[A-Z])")
_TEXTS = frozenset({"caption", "captions", "alt", "title", "text", "label", "description", "ocr", "question"})
# What describes a file without changing what is seen of it.
DESCRIPTIONS = frozenset({
    "id", "image_id", "index", "name", "filename", "file_name", "width", "height", "size", "mode", "format",
    "source", "license", "md5", "sha1", "sha256", "hash", "cache_control",
})  # fmt: skip


def check_keys(entry: Mapping[str, Any], *, allowed: Collection[str], what: str) -> None:
    """Raise RowError if an entry has a key that is not read and may change what should be seen."""
    for key, value in entry.items():
        described = key in DESCRIPTIONS and not isinstance(value, Mapping)
        if not is_empty(value) and key not in allowed and not described:
            raise RowError(
                f"expected {what} to have the keys {', '.join(ENTRY_KEYS)}, got {key!r}, which is not read",
                remedy=_remedy(key, value),
            )


def meant_limit(key: str) -> str | None:
    """Return the limit that is meant by a key with hyphens, spaces or capitals: `min-pixels`, `maxPixels`."""
    name = plain_name(_LOWER_TO_UPPER.sub("_", key)).lower()
    return name if name in LIMITS and name != key else None


def _remedy(key: str, value: Any) -> str:
    if (limit := meant_limit(key)) is not None:
        return f"call it {limit}"
    if isinstance(value, Mapping) or key in PLACES_OF_IMAGES:
        return "write the image as a path, an address or a data: address under the key image"
    if key in _TEXTS:
        return "write it into the prompt where the image is, and remove the key"
    return "apply it to the image file, or remove the key"
