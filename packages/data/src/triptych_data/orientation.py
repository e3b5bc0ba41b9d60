"""The direction in which a picture is shown, from its EXIF or XMP block, as Pillow's `exif_transpose` reads it."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

ORIENTATION_NOTES = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Keys of a Pillow image's `info` that can say its orientation."""
ORIENTATION_TAG = 274
_INTEGERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""The types of EXIF that Pillow reads as one number, as `struct` names them; a tag of another type says nothing."""
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_of(info: Mapping[Any, Any]) -> int:
    """Return the orientation (1 to 8) that a Pillow image's `info` says."""
    exif = info.get("exif")
    if exif is None:
        exif = _raw_profile(info.get("Raw profile type exif", ""))
    return orientation_in(exif, xmp=info.get("XML:com.adobe.xmp") or info.get("xmp") or b"")


def orientation_in(exif: object, *, xmp: bytes | str = b"") -> int:
    """Return the orientation (1 to 8) in an EXIF block, or else in XMP; 1 if it is absent, illegal or unreadable.

    Sources: EXIF 2.32, tag 274; XMP, `tiff:Orientation`.
    """
    tagged = _exif_tag(exif) if isinstance(exif, bytes) else None
    if tagged is None:
        found = _XMP_ORIENTATION.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
        tagged = None if found is None else int(found[1])
    return legal_orientation(tagged)


def legal_orientation(value: object) -> int:
    """Return an orientation itself if it is one, else 1: upright."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _raw_profile(text: object) -> bytes:
    """The EXIF block that ImageMagick writes into a PNG as text: a name, a length, and hexadecimal lines."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _exif_tag(raw: bytes) -> int | None:
    start = raw.find(b"Exif\0\0")
    block = raw[start + 6 :] if start >= 0 else raw
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return None
    try:
        (offset,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, numbers = struct.unpack_from(f"{order}HHI", block, entry)
            if tag == ORIENTATION_TAG:
                if kind not in _INTEGERS or numbers * struct.calcsize(order + _INTEGERS[kind]) > 4:
                    return 1  # of another type, or several numbers that stand elsewhere
                return int(struct.unpack_from(order + _INTEGERS[kind], block, entry + 8)[0])
    except struct.error:
        return None
    return None
