"""PNG files in which one gray or colour is transparent (tRNS), in every depth: it becomes the background."""

import struct

import numpy as np
import pytest
from damaged_files import chunk, png
from triptych_data import ImageError, ImagePolicy, ImageSource
from triptych_data.pixels import load_pixels

POLICY = ImagePolicy(background=(9, 8, 7))


def stripes(depth: int, values: tuple[int, ...], *, key: int) -> bytes:
    """A gray picture of 4 rows with 8 columns of each value."""
    columns = np.repeat(np.array(values, ">u2"), 8)
    bits = np.unpackbits(columns.view(np.uint8).reshape(-1, 2), axis=1)[:, 16 - depth :]
    return png(
        len(columns), 4, depth, 0, (b"\0" + np.packbits(bits).tobytes()) * 4, chunk(b"tRNS", struct.pack(">H", key))
    )


@pytest.mark.parametrize(
    ("depth", "values", "key", "shade"),
    [
        (1, (0, 1), 1, 0),
        (2, (1, 2), 1, 170),
        (4, (3, 7), 3, 119),
        (8, (3, 200), 3, 200),
        (16, (0x1234, 0x9001), 0x1234, 0x90),
    ],
)
def test_the_transparent_gray_becomes_the_background(depth, values, key, shade):
    pixels = load_pixels(ImageSource(ref=stripes(depth, values, key=key)), policy=POLICY)
    transparent = values.index(key) * 8
    assert (pixels[:, transparent : transparent + 8] == POLICY.background).all()
    opaque = 8 - transparent
    assert (pixels[:, opaque : opaque + 8] == shade).all()


def test_a_transparent_gray_is_compared_in_all_16_bits():
    pixels = load_pixels(ImageSource(ref=stripes(16, (0x1235, 0x9001), key=0x1234)), policy=POLICY)
    assert pixels[0, 0].tolist() == [0x12] * 3


def test_a_transparent_colour_of_16_bits_is_refused():
    row = b"\0" + struct.pack(">3H", 0x9000, 0x1234, 0) * 8
    data = png(8, 4, 16, 2, row * 4, chunk(b"tRNS", struct.pack(">3H", 0x9000, 0x1234, 0)))
    with pytest.raises(
        ImageError, match=r"one transparent colour \(tRNS\) of 16 bits per channel; save it as an 8-bit"
    ):
        load_pixels(ImageSource(ref=data))
