"""Orientations in EXIF, XMP, raw profiles and TIFF tags; Pillow's own `exif_transpose` says what is right."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from damaged_files import encoded, rotated, scene
from PIL import Image, ImageOps, features
from PIL.PngImagePlugin import PngInfo
from triptych_data import ImageError, ImagePolicy, ImageSource, load_image, probe_image


def xmp(orientation: int, *, as_element: bool = False) -> bytes:
    said = (
        f"><tiff:Orientation>{orientation}</tiff:Orientation>" if as_element else f' tiff:Orientation="{orientation}">'
    )
    return f"<x:xmpmeta><rdf:Description{said}</rdf:Description></x:xmpmeta>".encode()


def in_png(name: str, text: str) -> bytes:
    info = PngInfo()
    info.add_itxt(name, text) if name.startswith("XML") else info.add_text(name, text, zip=True)
    return encoded(scene(), "PNG", pnginfo=info)


def raw_profile(orientation: int) -> str:
    exif = Image.Exif()
    exif[274] = orientation
    block = exif.tobytes()
    return f"\nexif\n{len(block):8}\n{block.hex()}\n"


def without_tag() -> bytes:
    exif = Image.Exif()
    exif[305] = "a program"
    return exif.tobytes()


FILES = {
    "jpeg": lambda k: encoded(scene(), "JPEG", xmp=xmp(k)),
    "jpeg-element": lambda k: encoded(scene(), "JPEG", xmp=xmp(k, as_element=True)),
    "jpeg-exif-without-tag": lambda k: encoded(scene(), "JPEG", xmp=xmp(k), exif=without_tag()),
    "webp": lambda k: encoded(scene(), "WEBP", xmp=xmp(k), lossless=True),
    "png": lambda k: in_png("XML:com.adobe.xmp", xmp(k).decode()),
    "png-raw-profile": lambda k: in_png("Raw profile type exif", raw_profile(k)),
    "tiff": lambda k: encoded(scene(), "TIFF", tiffinfo={700: xmp(k)}),
    "tiff-tag-and-xmp": lambda k: encoded(scene(), "TIFF", tiffinfo={274: k, 700: xmp(6)}),
}
if features.check("avif"):
    FILES["avif"] = lambda k: encoded(scene(), "AVIF", xmp=xmp(k), quality=100)
    FILES["avif-exif-without-tag"] = lambda k: encoded(scene(), "AVIF", xmp=xmp(k), exif=without_tag(), quality=100)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_an_orientation_outside_exif_turns_the_picture(kind: str, orientation: int) -> None:
    data = FILES[kind](orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == (scene().size[::-1] if orientation >= 5 else scene().size)
    assert np.array_equal(np.asarray(load_image(ImageSource(ref=data))), np.asarray(expected))
    assert probe_image(ImageSource(ref=data)) == (expected.height, expected.width)
    opened, loaded = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    loaded.load()
    for picture in (opened, loaded):
        assert probe_image(ImageSource(ref=picture)) == (expected.height, expected.width)
        assert np.array_equal(np.asarray(load_image(ImageSource(ref=picture))), np.asarray(expected))
    if not kind.startswith("tiff"):  # Pillow turns it by itself
        as_stored = load_image(ImageSource(ref=data), policy=ImagePolicy(exif="ignore"))
        assert (as_stored.width, as_stored.height) == scene().size


def test_all_eight_orientations_are_turned_as_pillow_turns_them() -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        for orientation in range(1, 9):
            data = rotated(orientation, format)
            expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            source = ImageSource(ref=data)
            assert np.array_equal(np.asarray(load_image(source)), np.asarray(expected)), (format, orientation)
            assert probe_image(source) == (expected.height, expected.width)


def test_tiff_orientation_is_applied_once() -> None:
    tags = {274: 6}
    data = encoded(scene(), "TIFF", tiffinfo=tags)
    upright = np.asarray(scene()).transpose(1, 0, 2)[:, ::-1]
    assert np.array_equal(np.asarray(load_image(ImageSource(ref=data))), upright)
    assert probe_image(ImageSource(ref=data)) == (96, 64)


def test_exif_counts_before_xmp() -> None:
    exif = Image.Exif()
    exif[274] = 1
    data = encoded(scene(), "JPEG", xmp=xmp(6), exif=exif.tobytes())
    assert probe_image(ImageSource(ref=data)) == scene().size[::-1]


def test_a_png_whose_orientation_stands_after_its_pixels_is_refused() -> None:
    data = rotated(6, "PNG")
    at = data.index(b"eXIf") - 4
    stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
    end = data.index(b"IEND") - 4
    moved = data[:at] + data[stop:end] + data[at:stop] + data[end:]
    assert zlib.crc32(moved[-8:-4]) == int.from_bytes(moved[-4:], "big")
    with pytest.raises(ImageError, match="its orientation, 6, stands after its pixels"):
        load_image(ImageSource(ref=moved))
    assert load_image(ImageSource(ref=moved), policy=ImagePolicy(exif="ignore")) is not None


def test_pictures_that_differ_in_xmp_alone_are_two_images() -> None:
    upright, lying = (Image.open(io.BytesIO(FILES["jpeg"](k))) for k in (1, 6))
    assert np.array_equal(np.asarray(upright), np.asarray(lying))
    assert ImageSource(ref=upright).key != ImageSource(ref=lying).key


@pytest.mark.parametrize("kind", [1, 3, 4, 7, 8, 9])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("numbers", [1, 2])
def test_a_tag_of_any_type_is_read_as_pillow_reads_it(kind: int, order: str, numbers: int) -> None:
    code = {1: "B3x", 3: "H2x", 4: "I", 7: "B3x", 8: "h2x", 9: "i"}[kind]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 1)
    block = b"Exif\0\0" + start + struct.pack(f"{order}HHI{code}I", 274, kind, numbers, 6, 0)
    data = encoded(scene(), "PNG", exif=block)
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about two numbers that its block does not contain
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert probe_image(ImageSource(ref=data)) == expected.size[::-1]
