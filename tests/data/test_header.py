"""A plain PNG's header is read as Pillow reads it, whatever stands in its first bytes."""

from __future__ import annotations

import io
import os
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from triptych_data import ImageError
from triptych_data.example import ImageSource
from triptych_data.fetch import open_image
from triptych_data.header import parse_header, plain_png_header


def png(mode: str = "RGB", size: tuple[int, int] = (5, 7), **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The PNG with one more chunk behind its IHDR."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


PLAIN = [png("RGB"), png("L"), png("RGBA"), png(dpi=(72, 72)), with_chunk(png(), b"sRGB", b"\0")]
OTHERS = [
    *(png("1"), png("P"), png("I;16"), png("LA"), png(transparency=(0, 0, 0))),
    *(with_chunk(png(), b"eXIf", b"MM\0*\0\0\0\x08"), with_chunk(png(), b"sRGB", b"\0\0"), png()[:30], png()[:36]),
    png(save_all=True, append_images=[Image.new("RGB", (5, 7), "red")]),
]


def described(data: bytes) -> object:
    try:
        return parse_header(io.BytesIO(data), image="x.png")
    except ImageError as error:
        return str(error)


def by_pillow(data: bytes) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triptych_data.header.plain_png_header", lambda start: None)
        return described(data)


@pytest.mark.parametrize("data", [*PLAIN, *OTHERS], ids=range(len(PLAIN) + len(OTHERS)))
def test_a_png_is_described_as_pillow_describes_it(data):
    assert (plain_png_header(data[:4096]) is not None) == any(data is plain for plain in PLAIN)
    assert described(data) == by_pillow(data)


@given(st.sampled_from([PLAIN[0], PLAIN[3], PLAIN[4]]), st.integers(8, 80), st.integers(0, 255))
def test_a_damaged_png_is_judged_by_pillow(data, place, byte):
    changed = data[:place] + bytes([byte]) + data[place + 1 :]
    assert described(changed) == by_pillow(changed)


def test_a_file_is_read_like_any_other(tmp_path):
    content = bytes(range(256)) * 100
    (tmp_path / "a").write_bytes(content)
    with open_image(ImageSource(ref="a", root=tmp_path)) as stream, (tmp_path / "a").open("rb") as plain:
        for offset, whence, size in (
            (0, 0, 5),
            (9_000, 0, 10_000),
            (-3, 1, 7),
            (-20, 2, 50),
            (40_000, 0, 3),
            (1, 0, -1),
        ):
            assert stream.seek(offset, whence) == plain.seek(offset, whence)
            assert stream.read(size) == plain.read(size)
            assert stream.tell() == plain.tell()
        descriptor = stream.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_that_grows_after_it_was_opened_is_read_to_its_new_end(tmp_path):
    (tmp_path / "a").write_bytes(b"begin")
    with open_image(ImageSource(ref="a", root=tmp_path)) as stream:
        (tmp_path / "a").write_bytes(b"begin" + b"x" * 9_000)
        assert stream.read(20_000) == b"begin" + b"x" * 9_000
        assert stream.seek(0) == 0
        assert stream.read() == b"begin" + b"x" * 9_000
