"""Images inside texts: what is wrong with damaged base64, and what makes it right."""

from __future__ import annotations

import base64

import pytest
from triptych_data import ImageError, ImageSource, load_image


@pytest.fixture
def encoded(draw, encode):
    """The base64 of a picture, which has two characters of padding."""
    data = encode(draw(40, 30))
    return base64.b64encode(data + b"\0" * (-(len(data) - 1) % 3)).decode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: text[:-1],
            "characters of base64 to end with 2 `=`, got 1; write 2 `=` at the end if the text is",
        ),
        (lambda text: text.rstrip("="), "to end with 2 `=`, got none; write 2 `=` at the end"),
        (lambda text: text[:104] + "=", "expected 104 characters of base64 to end with no `=`, got 1; write no `="),
        (
            lambda text: text[:101],
            "in groups of 4 characters, got 101, of which the last is alone; copy the whole text",
        ),
        (
            lambda text: text[:50] + "*" + text[50:],
            r"got the character '\*' as number 51 of .*; encode the image again",
        ),
        (lambda text: text.replace("=", "%3D"), r"got the character '%' as number .*; decode its percent signs"),
    ],
)
@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_damaged_base64_says_where_and_what_to_do(encoded, damage, message, head):
    assert load_image(ImageSource(ref=head + encoded)).size == (40, 30)
    text = head + damage(encoded)
    if not head and ("*" in text or "%" in text):
        text = text.replace(".", "")
        assert len(text) > 300
    with pytest.raises(ImageError, match=message) as caught:
        load_image(ImageSource(ref=text))
    assert f"({len(text)} characters)" in str(caught.value)


@pytest.mark.parametrize("behind", ["b'", "base64,", "base64://", "image/png;base64,"])
def test_base64_behind_something_else_is_no_path(encoded, behind):
    with pytest.raises(ImageError, match=f"got it behind `{behind}`; remove that"):
        load_image(ImageSource(ref=behind + encoded))
