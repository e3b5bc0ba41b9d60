"""What the first bytes of an image say: format, size as decoded, orientation, frames.

Only pictures of 16 bits per channel are decoded, because their range is known from their pixels alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from triptych_data.depth import check_depth, check_no_key, check_range, is_deep_colour, is_deep_gray
from triptych_data.errors import ImageError
from triptych_data.example import ImageSource
from triptych_data.fetch import open_image
from triptych_data.jpeg import JpegHeader, read_jpeg_header
from triptych_data.orientation import ORIENTATION_TAG, legal_orientation, orientation_in, orientation_of
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.sniff import refused_format, sniff

_START_BYTES = 4096
_PNG_RGBA = 6
_PNG_MODES = {0: "L", 2: "RGB", _PNG_RGBA: "RGBA"}
_PNG_PLAIN = {b"IHDR": 13, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}  # and their lengths


class ImageHeader(NamedTuple):  # made for every image of a table: a dataclass would take twice as long
    """Contains what a header says; `height` and `width` are those of the decoded image, orientation applied."""

    height: int
    width: int
    format: str
    mode: str
    orientation: int
    animated: bool
    alpha: bool


def probe_image(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> tuple[int, int]:
    """Return (height, width) of the decoded image, from its header only. Raises ImageError."""
    header = read_header(source, policy=policy)
    return header.height, header.width


def read_header(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> ImageHeader:
    """Return the header of an image, checked against the policy. Raises ImageError."""
    if isinstance(source.ref, Image.Image):
        header = _checked(_memory_header(source.ref, policy), str(source), policy)
        if is_deep_gray(source.ref):
            check_range(source.ref, str(source))
        return header
    with open_image(source, policy=policy) as stream:
        return parse_header(stream, image=str(source), policy=policy)


def parse_header(stream: BinaryIO, *, image: str, policy: ImagePolicy = DEFAULT_POLICY) -> ImageHeader:
    """Return the header of an encoded image in a seekable stream, checked against the policy."""
    start = stream.read(_START_BYTES)
    format_name = _allowed_format(start, image, policy)
    picture = None
    try:
        header = plain_png_header(start) if format_name == "PNG" else None
        if format_name == "JPEG":
            header = _jpeg_header(read_jpeg_header(stream, start=start), policy)
        elif header is None:
            stream.seek(0)
            picture = _PLUGINS[format_name](stream, None)
            header = _pillow_header(picture, format_name, policy)
    except Exception as error:  # a plugin may raise anything on hostile bytes; to us it is one unreadable image
        raise unreadable(error, image) from error
    header = _checked(header, image, policy)
    if picture is not None:
        _check_deep(picture, image)
    return header


def _check_deep(picture: ImageFile.ImageFile, image: str) -> None:
    """Raise ImageError for a picture of 16 bits that is refused when it is decoded."""
    is_colour = is_deep_colour(picture)
    if not is_colour and not is_deep_gray(picture):
        return
    try:
        picture.load()
    except Exception as error:
        raise unreadable(error, image) from error
    check_range(picture, image)
    if is_colour:
        check_no_key(picture, image)


def _memory_header(picture: Image.Image, policy: ImagePolicy) -> ImageHeader:
    orientation = _orientation_of(picture, policy)
    width, height = picture.size[::-1] if orientation >= 5 else picture.size
    return ImageHeader(
        height=height,
        width=width,
        format="PIL",
        mode=picture.mode,
        orientation=orientation,
        animated=False,
        alpha=has_alpha(picture),
    )


def _jpeg_header(facts: JpegHeader, policy: ImagePolicy) -> ImageHeader:
    orientation = orientation_in(facts.exif, xmp=facts.xmp) if policy.exif == "apply" else 1
    height, width = (facts.width, facts.height) if orientation >= 5 else (facts.height, facts.width)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(facts.num_components, f"{facts.num_components} components")
    return ImageHeader(
        height=height, width=width, format="JPEG", mode=mode, orientation=orientation, animated=False, alpha=False
    )


def plain_png_header(start: bytes) -> ImageHeader | None:
    """Return the header of a PNG of 8 bits per channel without anything that changes how it is read, as Pillow reads
    it.

    None for every other PNG, and for a damaged one, which Pillow reads. Source: PNG (Third Edition), 11.2 and 11.3.
    """
    width, height, depth, colour, *methods = struct.unpack_from(">IIBBBBB", start.ljust(29), 16)
    if depth != 8 or colour not in _PNG_MODES or any(methods) or not (width and height):
        return None
    position = 8
    while (kind := start[position + 4 : position + 8]) != b"IDAT":
        length = _PNG_PLAIN.get(kind)
        if length is None or (kind == b"IHDR") != (position == 8):
            return None
        stop = position + 8 + length
        checksum = zlib.crc32(start[position + 4 : stop]).to_bytes(4, "big")
        if start[position : position + 4] != length.to_bytes(4, "big") or start[stop : stop + 4] != checksum:
            return None
        position = stop + 4
    if position == 8:
        return None
    return ImageHeader(
        height=height,
        width=width,
        format="PNG",
        mode=_PNG_MODES[colour],
        orientation=1,
        animated=False,
        alpha=colour == _PNG_RGBA,
    )


def _pillow_header(picture: ImageFile.ImageFile, format_name: str, policy: ImagePolicy) -> ImageHeader:
    orientation = _orientation_of(picture, policy)
    width, height = picture.size
    # Pillow turns TIFF by itself, and its size knows of the tag before that, but not of XMP.
    knows = isinstance(picture, TiffImagePlugin.TiffImageFile) and ORIENTATION_TAG in picture.tag_v2
    if orientation >= 5 and not knows:
        width, height = height, width
    return ImageHeader(
        height=height,
        width=width,
        format=format_name,
        mode=picture.mode,
        orientation=orientation,
        animated=bool(getattr(picture, "is_animated", False)),
        alpha=has_alpha(picture),
    )


def has_alpha(picture: Image.Image) -> bool:
    """Return whether some pixel can be transparent."""
    return "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info


def open_picture(stream: BinaryIO, *, image: str, policy: ImagePolicy = DEFAULT_POLICY) -> ImageFile.ImageFile:
    """Open an image by what its bytes say it is.

    Plugins are called directly: `Image.open` tries formats outside the allow-list, warns about sizes that the policy
    decides, and its limit is a global that belongs to the application.
    """
    format_name = _allowed_format(stream.read(_START_BYTES), image, policy)
    stream.seek(0)
    try:
        return _PLUGINS[format_name](stream, None)
    except Exception as error:
        raise unreadable(error, image) from error


def _allowed_format(start: bytes, image: str, policy: ImagePolicy) -> str:
    format_name = sniff(start[:32])
    if format_name not in policy.formats:
        raise refused_format(start, format_name, image, policy)
    return format_name


_PLUGINS: dict[str, Callable[[BinaryIO, None], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}


def unreadable(error: Exception, image: str) -> ImageError:
    """Return what a decoder said, as one ImageError."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(
            f"cannot be read ({text})", image=image, kind="io", remedy="check the disk or network and try again"
        )
    truncated = "truncated" in text.lower() or isinstance(error, EOFError)
    return ImageError(
        f"cannot be decoded ({text})",
        image=image,
        kind="truncated" if truncated else "memory" if isinstance(error, MemoryError) else "corrupt",
        remedy="replace the file" if not truncated else "copy the file again, it is cut short",
    )


def _checked(header: ImageHeader, image: str, policy: ImagePolicy) -> ImageHeader:
    pixels = header.height * header.width
    if pixels == 0:
        raise ImageError("the image has no pixels", image=image, kind="corrupt", remedy="replace the file")
    check_depth(header.mode, image)
    if pixels > policy.max_image_pixels:
        raise ImageError(
            f"expected at most {policy.max_image_pixels} pixels, got {header.width}x{header.height} = {pixels}",
            image=image,
            kind="too_large",
            remedy="shrink the image or raise max_image_pixels (--max_image_pixels)",
        )
    if header.animated and policy.animated == "refuse":
        raise ImageError(
            f"expected one picture, got several frames or pages ({header.format})",
            image=image,
            kind="animated",
            remedy='extract one, or read the first with animated="first" (--animated first)',
        )
    return header


def _orientation_of(picture: Image.Image, policy: ImagePolicy) -> int:
    if policy.exif == "ignore":
        return 1
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return legal_orientation(picture.getexif().get(ORIENTATION_TAG))  # loading takes the tag out of `tag_v2`
    return orientation_of(picture.info)
