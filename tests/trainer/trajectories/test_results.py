"""What tools return, as pieces of text and images; pixels never become text."""

import numpy as np
import pytest
from PIL import Image
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.results import first_pieces_of, pieces_of

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
        (PICTURE, [PICTURE]),
        (PART, [PICTURE]),
        (["look:", PICTURE, {"type": "text", "text": "!"}], ["look:", PICTURE, "!"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_and_images_in_order(result, expected):
    assert pieces_of(result, owner="zoom") == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), r"zoom: it returned ndarray with an array of shape \(4, 4, 3\) in it"),
        ((np.zeros((4, 4, 3)), {}), r"returned tuple with an array of shape"),
        ({"seen": PICTURE}, r"returned dict with a PIL image in it, which would become text"),
        ([{"frame": [PICTURE]}], r"returned list with a PIL image"),
        (b"png", r"returned bytes with bytes in it"),
        (
            [PICTURE, 3],
            r"zoom: part 2 of what it returned is of class int, neither text nor an image; return a list of",
        ),
        ([{"type": "image", "image": "a.png"}], r"part 1 of what it returned is of type 'image', neither text nor"),
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
