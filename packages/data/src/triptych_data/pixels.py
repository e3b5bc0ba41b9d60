"""From encoded bytes to RGB pixels: one decode, orientation, alpha on a background, 16 bits by shift."""

from __future__ import annotations

import functools
import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triptych_data.budget import Size
from triptych_data.depth import check_depth, is_deep_gray
from triptych_data.errors import ImageError
from triptych_data.example import ImageSource
from triptych_data.fetch import read_image
from triptych_data.header import (
    ImageHeader,
    has_alpha,
    open_picture,
    parse_header,
    read_header,
    unreadable,
)
from triptych_data.jpeg import read_jpeg_header, without_metadata
from triptych_data.orientation import orientation_of
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy

Pixels = NDArray[np.uint8]
_KEY_FACTORS = {"'1'": (1, 255), "'L;2'": (3, 85), "'L;4'": (15, 17)}
"""Of gray of 1, 2 and 4 bits: its highest value, and by what Pillow multiplies it, but not the gray that a PNG says is
transparent (tRNS); that of 1 bit not before Pillow 13.
"""


def load_image(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> Image.Image:
    """Return the image as RGB, upright, on the policy's background. Raises ImageError."""
    return Image.fromarray(load_pixels(source, policy=policy))


def load_thumbnail(source: ImageSource, *, side_pixels: int, policy: ImagePolicy = DEFAULT_POLICY) -> Image.Image:
    """Return the image as RGB, upright, at most `side_pixels` on its longest side; a large JPEG is decoded at a
    fraction.

    For looking at, not for training. Raises ImageError.
    """
    if isinstance(source.ref, Image.Image):
        picture = load_image(source, policy=policy)
    else:
        data = read_image(source, policy=policy)
        picture = Image.fromarray(decode(data, image=str(source), policy=policy, at_least=side_pixels))
    picture.thumbnail((side_pixels, side_pixels))
    return picture


def load_pixels(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> Pixels:
    """Return the image as uint8 [height, width, 3]. Raises ImageError."""
    if isinstance(source.ref, Image.Image):
        header = read_header(source, policy=policy)
        return _normalised(source.ref, header, str(source), policy)
    data = read_image(source, policy=policy)
    return decode(data, image=str(source), policy=policy)


def decode(data: bytes, *, image: str, policy: ImagePolicy = DEFAULT_POLICY, at_least: int | None = None) -> Pixels:
    """Decode an encoded image to uint8 [height, width, 3]; its header is checked before any pixel is decoded.

    With `at_least` a JPEG may come at 1/2, 1/4 or 1/8 of its size, with no side below so many pixels.
    """
    header = parse_header(io.BytesIO(data), image=image, policy=policy)
    if at_least is None or header.format != "JPEG" or min(header.height, header.width) < 2 * at_least:
        pixels = _decoded(data, header, image, policy, at_least=None)
        check_size(pixels, (header.height, header.width), image=image)
        return pixels
    return _decoded(data, header, image, policy, at_least=at_least)


def check_size(pixels: Pixels, expected: Size, *, image: str) -> None:
    """Raise ImageError if an image decodes to another (height, width) than it was planned with."""
    height, width = pixels.shape[:2]
    if (height, width) != expected:
        raise ImageError(
            f"its header says {expected[1]}x{expected[0]} pixels, but {width}x{height} were decoded",
            image=image,
            kind="corrupt",
            remedy="replace the file",
        )


def _decoded(data: bytes, header: ImageHeader, image: str, policy: ImagePolicy, *, at_least: int | None) -> Pixels:
    if header.format == "JPEG":
        if header.mode in ("RGB", "L") and at_least is None:
            fast = _decode_fast(data)
            if fast is not None:
                return _upright(fast, header.orientation)
        data = without_metadata(data, read_jpeg_header(io.BytesIO(data)))
    picture = open_picture(io.BytesIO(data), image=image, policy=policy)
    tile = str(picture.tile)
    try:
        if at_least is not None:
            picture.draft(picture.mode, (at_least, at_least))  # the decoder skips detail: two to four times faster
        picture.load()
        _check_orientation(picture, header, image, policy)
        key = picture.info.get("transparency")
        for depth, (most, factor) in _KEY_FACTORS.items():
            if depth in tile and isinstance(key, int) and key <= most:
                picture.info["transparency"] = key * factor
        return _normalised(picture, header, image, policy)
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on hostile bytes
        raise unreadable(error, image) from error


@functools.cache
def fast_decoder() -> Any | None:
    """Return simplejpeg if the extra `fast` is installed: it gives the same pixels as Pillow in less time."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _decode_fast(data: bytes) -> Pixels | None:
    """Pixels by libjpeg-turbo; None without it, or where it complains: then Pillow decides, as it does everywhere else.

    Whether an image is used must not depend on which decoder is installed.
    """
    decoder = fast_decoder()
    if decoder is None:
        return None
    try:
        pixels: Pixels = decoder.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError:
        return None
    return pixels


def is_guessed_around(data: bytes, *, image: str, policy: ImagePolicy = DEFAULT_POLICY) -> bool:
    """Decode an image as `decode` does, and return whether a JPEG's compressed data contains more or less than its
    picture needs: stray bytes, or damage.

    Decoders give no message of these. Only the strict decoder of the extra `fast` does; without it the answer is False.
    Raises ImageError.
    """
    header = parse_header(io.BytesIO(data), image=image, policy=policy)
    decoder = fast_decoder() if header.format == "JPEG" and header.mode in ("RGB", "L") else None
    strict = None if decoder is None else _decode_fast(data)
    if strict is not None:
        check_size(_upright(strict, header.orientation), (header.height, header.width), image=image)
        return False
    decode(data, image=image, policy=policy)
    if decoder is None:
        return False
    try:
        decoder.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        return "corrupt jpeg data" in str(error).lower()
    return False


def _normalised(picture: Image.Image, header: ImageHeader, image: str, policy: ImagePolicy) -> Pixels:
    rgb = to_rgb(picture, background=policy.background, image=image)
    pixels = np.asarray(rgb)
    return pixels if header.format == "TIFF" else _upright(pixels, header.orientation)


def to_rgb(picture: Image.Image, *, background: tuple[int, int, int] = (255, 255, 255), image: str) -> Image.Image:
    """Convert an image to RGB without silent damage: alpha is composited, 16-bit gray is shifted, float and 32-bit
    images are refused. Its header was checked, with the range of 16 bits.
    """
    if is_deep_gray(picture):
        values = np.asarray(picture).astype(np.uint16)
        gray = values >> 8  # Pillow's own conversion clips almost everything to white
        rgb = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)
        if "transparency" in picture.info:
            rgb[values == picture.info["transparency"]] = background
        return Image.fromarray(rgb)
    mode = picture.mode
    check_depth(mode, image)
    if mode == "La":
        picture = picture.convert("LA")
    if has_alpha(picture):
        translucent = picture.convert("RGBA")
        flat = Image.new("RGB", picture.size, background)
        flat.paste(translucent, mask=translucent.getchannel("A"))
        return flat
    return picture if mode == "RGB" else picture.convert("RGB")


def _check_orientation(picture: Image.Image, header: ImageHeader, image: str, policy: ImagePolicy) -> None:
    """Raise ImageError for a PNG whose orientation stands after its pixels, where its header was not looked for."""
    if header.format != "PNG" or policy.exif == "ignore" or orientation_of(picture.info) == header.orientation:
        return
    raise ImageError(
        f"its orientation, {orientation_of(picture.info)}, stands after its pixels",
        image=image,
        kind="corrupt",
        remedy="save the file upright, or with its EXIF or XMP before the pixels",
    )


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply EXIF orientation 1 to 8 to [height, width, 3]."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
