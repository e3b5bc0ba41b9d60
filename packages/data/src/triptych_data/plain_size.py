"""The size of a plain image from its first bytes, without an object for its header; most images are plain."""

from __future__ import annotations

from triptych_data.budget import Size
from triptych_data.header import plain_png_header
from triptych_data.jpeg import plain_jpeg_size
from triptych_data.policy import ImagePolicy

PLAIN_BYTES = 4096
"""How many of the first bytes are looked at."""


def plain_size(start: bytes, policy: ImagePolicy) -> Size | None:
    """Return (height, width) of a PNG or JPEG that has no orientation and that the policy allows, as `parse_header`
    reads it.

    None for every other image: `parse_header` then reads it, or says what is wrong with it.
    """
    size: Size | None = None
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        header = plain_png_header(start) if "PNG" in policy.formats else None
        size = None if header is None else header[:2]
    elif start.startswith(b"\xff\xd8\xff") and "JPEG" in policy.formats:
        size = plain_jpeg_size(start)
    return size if size is not None and 0 < size[0] * size[1] <= policy.max_image_pixels else None
