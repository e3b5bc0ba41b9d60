"""Image files that are damaged, odd or out of bounds, made from a drawn scene."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def scene(width: int = 96, height: int = 64) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(3).normal(0, 8, (height, width, 3))
    shades = np.stack([140 + 0 * x, 60 + x, 20 + 2 * y], axis=-1)
    return Image.fromarray(np.clip(shades + noise, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


JPEG = encoded(scene(), "JPEG", quality=90)
BIG_JPEG = encoded(scene(640, 480), "JPEG", quality=90)
PNG = encoded(scene(), "PNG")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def scan_damaged() -> bytes:
    """A JPEG with 64 bytes overwritten inside the compressed scan: Pillow shows a shifted, miscoloured rest."""
    data = bytearray(BIG_JPEG)
    start = data.index(b"\xff\xda") + 5000
    data[start : start + 64] = b"\x40" * 64
    return bytes(data)


def stray(data: bytes) -> bytes:
    """The JPEG with bytes before its end marker that belong to nothing."""
    return JPEG[:-2] + data + JPEG[-2:]


def with_frame(*, precision: int = 8, components: int = 3) -> bytes:
    """The JPEG with another frame header."""
    data = bytearray(JPEG)
    frame = data.index(b"\xff\xc0") + 4
    data[frame], data[frame + 5] = precision, components
    return bytes(data)


def animation(format: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)


def rotated(orientation: int, format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(scene(), format, exif=exif.tobytes(), **({"lossless": True} if format == "WEBP" else {}))


def hidden_red(mode: str) -> bytes:
    """Fully transparent pixels whose colour is red (or dark, for gray)."""
    colour = (211, 87, 28, 0) if mode == "RGBA" else (40, 0)
    return encoded(Image.new(mode, (32, 24), colour), "PNG")


def palette_with_hole() -> bytes:
    picture = Image.new("P", (32, 24), 1)
    picture.putpalette([0, 0, 0, 211, 87, 28])
    return encoded(picture, "PNG", transparency=1)


def gray16() -> bytes:
    return encoded(Image.fromarray(np.full((24, 32), 32767, np.uint16)), "PNG")


def rgb16() -> bytes:
    row = b"\0" + struct.pack(">3H", 32767, 32767, 32767) * 32
    return png(32, 24, 16, 2, row * 24)


@functools.cache
def bits1(width: int, height: int) -> bytes:
    compress = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    body = b"".join(compress.compress(row) for _ in range(height)) + compress.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@functools.cache
def with_comments(megabytes: int) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 65535) + b"x" * 65533
    return JPEG[:2] + comment * (16 * megabytes) + JPEG[2:]


@functools.cache
def text_bomb() -> bytes:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (200 << 20), 1))
    return PNG[:33] + text + PNG[33:]


def saved(name: str, data: bytes | Callable[[], bytes]) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return name

    return make


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.jpg")
    return "pipe.jpg"


def link(target: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / "link.jpg").symlink_to(target)
        return "link.jpg"

    return make


def outside_file(how: str) -> Callable[[Path], str]:
    """A picture beside the image root `folder/inside`, reached in several ways."""

    def make(folder: Path) -> str:
        (folder / "inside").mkdir()
        (folder / "outside").mkdir()
        (folder / "outside" / "x.png").write_bytes(PNG)
        if how == "parent":
            return "../outside/x.png"
        if how == "absolute":
            return str(folder / "outside" / "x.png")
        if how == "file link":
            (folder / "inside" / "x.png").symlink_to("../outside/x.png")
            return "x.png"
        (folder / "inside" / "sub").symlink_to(folder / "outside")
        return "sub/x.png"

    return make


def subfolder(folder: Path) -> str:
    (folder / "sub.jpg").mkdir()
    return "sub.jpg"


def hub_cache(folder: Path) -> str:
    repository = folder / "datasets--a--b"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "abc").write_bytes(PNG)
    snapshot = repository / "snapshots" / "rev" / "images"
    snapshot.mkdir(parents=True)
    (snapshot / "x.png").symlink_to("../../../blobs/abc")
    return "x.png"


def loop(folder: Path) -> str:
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")
    return "a.jpg"
