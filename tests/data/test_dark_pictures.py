"""Pictures of 16 bits per channel whose values would be black as 8 bits: refused, with their highest value."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from damaged_files import encoded, png
from PIL import Image
from triptych_data import ImageError, ImageSource, probe_image
from triptych_data.pixels import load_pixels


def gray(value: int, *, format: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.full((24, 32), value, np.uint16)), format)


def colour(red: int, green: int, blue: int, *, alpha: int | None = None) -> bytes:
    values = [red, green, blue, *([] if alpha is None else [alpha])]
    row = b"\0" + struct.pack(f">{len(values)}H", *values) * 32
    return png(32, 24, 16, 2 if alpha is None else 6, row * 24)


@pytest.mark.parametrize(
    ("picture", "highest"),
    [
        (gray(200), 255),
        (gray(4095), 4095),
        (gray(200, format="TIFF"), 255),
        (Image.fromarray(np.full((24, 32), 200, np.uint16)), 255),
        (colour(200, 7, 0), 255),
        (colour(200, 4000, 0, alpha=65535), 4095),
    ],
    ids=["8 bits in 16", "12 bits in 16", "TIFF", "in memory", "colour", "colour with alpha"],
)
def test_values_that_would_be_nearly_black_are_refused(picture, highest):
    for read in (load_pixels, probe_image):  # a check that reads only headers sees it, too
        with pytest.raises(
            ImageError, match=f"up to 65,535, got none above {highest:,}: .* nearly black; scale"
        ) as got:
            read(ImageSource(ref=picture))
        assert got.value.kind == "depth"


@pytest.mark.parametrize("picture", [gray(0), gray(4096), colour(0, 0, 4096)], ids=["black", "gray", "one channel"])
def test_other_pictures_of_16_bits_are_read(picture):
    assert load_pixels(ImageSource(ref=picture)).shape == (24, 32, 3)
    assert probe_image(ImageSource(ref=picture)) == (24, 32)
