"""Boxes end on the pixels they began on."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from triptych_data import ImageSource, load_image, read_examples
from triptych_data.boxes import follow_box, follow_objects
from triptych_data.header import read_header
from triptych_data.resize import letterbox, resize

BOX = (30, 10, 50, 40)  # of a stored image of 120 x 80


def stored(orientation: int, format: str = "PNG") -> bytes:
    """A black image with a white box, told to be shown in some orientation."""
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, exif=exif.tobytes())
    return buffer.getvalue()


def white_box(pixels: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(pixels[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_follows_every_orientation_and_resize(orientation):
    source = ImageSource(ref=stored(orientation))
    header = read_header(source)
    pixels = np.asarray(load_image(source))
    assert follow_box(BOX, header=header) == white_box(pixels)
    unit = (BOX[0] / 120, BOX[1] / 80, BOX[2] / 120, BOX[3] / 80)
    assert follow_box(unit, header=header, coordinates="unit") == pytest.approx(white_box(pixels))
    for size in ((160, 240), (40, 60), (100, 40)):
        seen = white_box(resize(pixels, size))
        assert follow_box(BOX, header=header, size=size) == pytest.approx(seen, abs=1)
        boxed = white_box(letterbox(pixels, size, background=(0, 0, 0)))
        assert follow_box(BOX, header=header, size=size, fit="letterbox") == pytest.approx(boxed, abs=1)


def test_a_polygon_keeps_its_points_in_order():
    header = read_header(ImageSource(ref=stored(3)))
    assert follow_box((0, 0, 120, 0, 120, 80), header=header) == [120, 80, 0, 80, 0, 0]
    with pytest.raises(ValueError, match="pairs of x and y, got 3 numbers"):
        follow_box((1, 2, 3), header=header)


def test_objects_of_a_record_follow_the_image_they_name(write_jsonl, tmp_path):
    (tmp_path / "a.png").write_bytes(stored(1))
    (tmp_path / "b.png").write_bytes(stored(6))
    objects = {"ref": ["x", "y"], "bbox": [list(BOX), list(BOX)], "image_id": [1, 0]}
    row = {"messages": [{"role": "user", "content": "<image><image>"}], "images": ["a.png", "b.png"]}
    example = read_examples(write_jsonl([{**row, "objects": objects}, row]))[0]
    followed = follow_objects(example, sizes=[(160, 240), None])
    assert followed["bbox"] == [[40, 30, 70, 50], [60, 20, 100, 80]]
    assert followed["ref"] == ["x", "y"]
    assert follow_objects(read_examples(write_jsonl([row]))[0]) is None
