"""Images as content parts of a message: `{"type": "image"}` and `{"type": "image_url"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_parser.dialects import Dialect
from triptych_parser.prompt import ImageMarker

__all__ = ["IMAGE_PARTS", "read_part", "translate_part", "write_part"]

IMAGE_PARTS = ("image", "image_url")
_ADDRESSES = ("url", "path", "image")


def read_part(part: Mapping[str, Any], index: int) -> ImageMarker:
    """Return the marker of an image part, with the part's `name` and `annotation` if they are strings."""
    name, annotation = part.get("name"), part.get("annotation")
    return ImageMarker(
        ref=name if isinstance(name, str) and part["type"] == "image" else None,
        annotation=annotation if isinstance(annotation, str) and part["type"] == "image" else None,
        part=index,
        structured=part,
    )


def write_part(marker: ImageMarker, dialect: Dialect) -> dict[str, Any]:
    """Return the part of a marker: as it was read, or a new part with the marker's name and annotation."""
    part: dict[str, Any] = dict(marker.structured or {"type": dialect.part or "image"})
    if dialect.names and isinstance(marker.ref, str):
        part.setdefault("name", marker.ref)
    if dialect.annotations and marker.annotation is not None:
        part.setdefault("annotation", marker.annotation)
    return part


def translate_part(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the same image as a part of another kind, with its address under the key of that kind."""
    if part["type"] == kind:
        return dict(part)
    if kind == "image_url":
        address = next((part[key] for key in _ADDRESSES if isinstance(part.get(key), str)), None)
        return {"type": kind, **({} if address is None else {"image_url": {"url": address}})}
    info = part.get("image_url")
    address = info.get("url") if isinstance(info, Mapping) else info
    return {"type": kind, **({} if address is None else {"url": address})}
