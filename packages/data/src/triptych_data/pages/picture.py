"""A picture as a data URI, which a page contains."""

import base64
import io

from PIL import Image

SMALL_PIXELS = 128
"""Images up to this side are kept as lossless PNG: they are drawings, icons, or the demo's."""


def encoded(picture: Image.Image, *, lossless: bool) -> str:
    """Return an RGB picture as it is as a data URI: PNG where `lossless`, JPEG otherwise."""
    buffer = io.BytesIO()
    if lossless:
        picture.save(buffer, format="PNG")
    else:
        picture.convert("RGB").save(buffer, format="JPEG", quality=80, optimize=True)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
