"""A size that is read from the first bytes alone is the one that the whole header has, and that Pillow decodes."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from triptych_data import ImageError
from triptych_data.header import parse_header
from triptych_data.plain_size import PLAIN_BYTES, plain_size
from triptych_data.policy import DEFAULT_POLICY


def encoded(kind: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (21, 13), 90).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encoded("JPEG", exif=exif)


PLAIN = {
    **{f"JPEG {mode}": encoded("JPEG", mode) for mode in ("L", "RGB", "CMYK")},
    "JPEG in progressive scans": encoded("JPEG", progressive=True),
    "JPEG with a comment and a profile": encoded("JPEG", comment=b"x" * 300, icc_profile=b"y" * 500),
    "JPEG of several pictures": encoded("MPO", save_all=True, append_images=[Image.new("RGB", (21, 13))]),
    **{f"PNG {mode}": encoded("PNG", mode) for mode in ("L", "RGB", "RGBA")},
}
OTHERS = {
    "JPEG with an orientation": turned(),
    "JPEG whose frame is far": encoded("JPEG", icc_profile=b"y" * 9000),
    "PNG with a palette": encoded("PNG", "P"),
    **{kind: encoded(kind) for kind in ("WEBP", "GIF", "BMP", "TIFF")},
    "nothing": b"",
}


def whole(data: bytes) -> tuple[int, int] | None:
    """The size that the reader of every header gives; None where it refuses the file."""
    try:
        return parse_header(io.BytesIO(data), image="x")[:2]
    except ImageError:
        return None


@pytest.mark.parametrize("name", PLAIN)
def test_plain_images_are_read_from_their_first_bytes(name):
    with Image.open(io.BytesIO(PLAIN[name])) as image:
        image.load()
        assert plain_size(PLAIN[name][:PLAIN_BYTES], DEFAULT_POLICY) == image.size[::-1] == whole(PLAIN[name])


@pytest.mark.parametrize("name", OTHERS)
def test_all_others_are_left_to_the_reader_of_headers(name):
    assert plain_size(OTHERS[name][:PLAIN_BYTES], DEFAULT_POLICY) is None


@pytest.mark.parametrize("name", ["JPEG RGB", "PNG RGB"])
def test_what_the_policy_does_not_allow_is_left_to_the_reader_that_says_so(name):
    kind = name.split()[0]
    assert plain_size(PLAIN[name], replace(DEFAULT_POLICY, max_image_pixels=21 * 13 - 1)) is None
    assert plain_size(PLAIN[name], replace(DEFAULT_POLICY, formats=("WEBP",))) is None
    assert plain_size(PLAIN[name], replace(DEFAULT_POLICY, formats=(kind,), max_image_pixels=21 * 13)) == (13, 21)


@given(
    st.sampled_from([*PLAIN.values(), *OTHERS.values()]),
    st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=3)), max_size=3),
    st.none() | st.integers(0, 700),
)
def test_of_damaged_files_it_knows_a_size_only_where_the_reader_of_headers_gives_the_same(data, changes, stop):
    for place, written in changes:
        data = data[:place] + written + data[place + len(written) :]
    data = data[:stop]
    found = plain_size(data[:PLAIN_BYTES], DEFAULT_POLICY)
    assert found in (None, whole(data))
