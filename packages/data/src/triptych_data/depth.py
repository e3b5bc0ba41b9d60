"""Bits per channel: 32 bits are refused, and 16 bits whose values would become nearly black as 8 bits."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from triptych_data.errors import ImageError

_DEEP_COLOUR = re.compile(r"'(RGB|RGBA|RGBX|LA);16[BLN]?'")
_LOWEST_WHITE = 16
"""Of 255: values of 12 bits or fewer in 16 stay below it."""


def check_depth(mode: str, image: str) -> None:
    """Raise ImageError for pixels whose range nobody states: 32-bit integers and floats."""
    if mode in ("I", "F"):
        raise ImageError(
            f"expected 8 or 16 bits per channel, got mode {mode} whose range is unknown",
            image=image,
            kind="depth",
            remedy="convert it to 8-bit PNG",
        )


def is_deep_gray(picture: Image.Image) -> bool:
    """Return whether a picture has gray of 16 bits."""
    return picture.mode.startswith("I;16")


def is_deep_colour(picture: Image.Image) -> bool:
    """Return whether an encoded picture has 16 bits per channel, of which Pillow keeps 8; ask before it is loaded."""
    return _DEEP_COLOUR.search(str(getattr(picture, "tile", ""))) is not None


def check_range(picture: Image.Image, image: str) -> None:
    """Raise ImageError if no value of a loaded picture of 16 bits is above 4,095.

    Gray whose values are all 0 passes: it is black in every depth.
    """
    if is_deep_gray(picture):
        values = np.asarray(picture)
        highest = int(values.max()) >> 8
        if not values.any():
            return
    else:
        highest = max(high for _, high in _extrema(picture))
    if highest < _LOWEST_WHITE:
        raise ImageError(
            f"expected values of 16 bits per channel up to 65,535, got none above {(highest << 8) + 255:,}: as 8 bits "
            "the picture would be nearly black",
            image=image,
            kind="depth",
            remedy="scale its values to the whole range, or save it as an 8-bit PNG",
        )


def check_no_key(picture: Image.Image, image: str) -> None:
    """Raise ImageError for a colour of 16 bits that is transparent: as 8 bits other colours are equal to it."""
    if "transparency" in picture.info:
        raise ImageError(
            "expected transparency as a channel, got one transparent colour (tRNS) of 16 bits per channel",
            image=image,
            kind="depth",
            remedy="save it as an 8-bit PNG with an alpha channel",
        )


def _extrema(picture: Image.Image) -> list[tuple[int, int]]:
    """(lowest, highest) value of each channel of colour."""
    return [picture.getchannel(band).getextrema() for band in picture.getbands() if band != "A"]  # type: ignore[misc]
