"""What tools return, as pieces of text and images; pixels never become text."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from triptych_data import ImageSource
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.results import UnreadablePictureError, first_pieces_of, pieces_digest, pieces_of

PICTURE = Image.new("RGB", (4, 4))
PART = {"type": "image", "image": PICTURE}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("red", ["red"]),
        (3, ["3"]),
        ([], ["[]"]),
        ([{"type": "door", "x": 1}], ["[{'type': 'door', 'x': 1}]"]),
        (np.eye(2, dtype=int), ["[[1 0]\n [0 1]]"]),
        (None, ["None"]),
        (Path("a.png"), ["a.png"]),
        ("half \ud83d, whole \ud83d\ude00", ["half \ufffd, whole \U0001f600"]),
        (PICTURE, [PICTURE]),
        (PART, [PICTURE]),
        (["look:", PICTURE, {"type": "text", "text": "!"}], ["look:", PICTURE, "!"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_and_images_in_order(result, expected):
    assert pieces_of(result, owner="zoom") == expected


async def later():
    yield 1


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), r"zoom: it returned ndarray with an array of shape \(4, 4, 3\) in it"),
        ((np.zeros((4, 4, 3)), {}), r"returned tuple with an array of shape"),
        ({"seen": PICTURE}, r"returned dict with a PIL image in it, which would become text"),
        ([{"frame": [PICTURE]}], r"returned list with a PIL image"),
        (b"png", r"returned bytes with bytes in it"),
        (np.zeros((56, 56)), r"returned ndarray with an array of shape \(56, 56\) in it"),
        (object(), r"returned object with an object of class object in it"),
        ([(k for k in range(3))], r"returned list with an object of class generator in it"),
        (later(), r"returned async_generator with an object of class async_generator in it"),
        (
            [PICTURE, 3],
            r"zoom: part 2 of what it returned is of class int, neither text nor an image; return a list of",
        ),
        (
            [{"type": "image", "image": "a.png"}],
            r"part 1 of what it returned is of type 'image', neither text nor an image \(it has str under 'image'\)",
        ),
        ([{"type": "audio", "audio": b""}], r"part 1 of what it returned is of type 'audio'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pixels_that_would_become_text_are_refused(result, expected):
    with pytest.raises(UsageError, match=expected):
        pieces_of(result, owner="zoom")


def test_an_environment_may_show_nothing_at_first():
    assert first_pieces_of(None, owner="Grid") == first_pieces_of([], owner="Grid") == []
    assert first_pieces_of([PART, {"type": "text", "text": "Go."}], owner="Grid") == [PICTURE, "Go."]


def test_damaged_data_of_an_image_are_named():
    stream = io.BytesIO()
    PICTURE.resize((64, 64)).save(stream, "PNG")
    with pytest.raises(UnreadablePictureError, match=r"zoom: part 1 of what it returned cannot be read: .*trunc"):
        pieces_of(Image.open(io.BytesIO(stream.getvalue()[:60])), owner="zoom")


def test_pictures_that_differ_in_their_palette_alone_are_different():
    red, green = (Image.new("P", (4, 2)) for _ in range(2))
    red.putpalette([255, 0, 0] * 256)
    green.putpalette([0, 255, 0] * 256)
    assert pieces_digest([red]) != pieces_digest([green])
    assert ImageSource(ref=red).key != ImageSource(ref=green).key
    assert ImageSource(ref=red).key == ImageSource(ref=red.copy()).key
