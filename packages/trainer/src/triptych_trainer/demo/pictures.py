"""Small pictures of one coloured shape on a pale ground, described by a few numbers and drawn with Pillow."""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

PICTURE_SIDE_PIXELS = 56
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 216),
    "yellow": (242, 205, 32),
    "purple": (142, 44, 168),
    "black": (24, 24, 24),
}
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Says what one picture shows; lengths are in pixels, colour channels in 0..255."""

    colour: str
    shape: str
    centre: tuple[int, int]
    radius: int
    paint: tuple[int, int, int]
    ground: tuple[int, int, int]


def random_picture(rng: random.Random, *, colour: str) -> Picture:
    """Choose shape, place, size and slight tints of a picture whose shape has the given colour."""
    radius = rng.randint(14, 21)
    low, high = radius + 2, PICTURE_SIDE_PIXELS - radius - 3
    return Picture(
        colour=colour,
        shape=rng.choice(SHAPES),
        centre=(rng.randint(low, high), rng.randint(low, high)),
        radius=radius,
        paint=_tinted(COLOURS[colour], rng, spread=14),
        ground=_tinted((226, 226, 226), rng, spread=22),
    )


def draw_picture(picture: Picture) -> Image.Image:
    """Draw the picture as an RGB image of 56 x 56 pixels."""
    image = Image.new("RGB", (PICTURE_SIDE_PIXELS, PICTURE_SIDE_PIXELS), picture.ground)
    draw = ImageDraw.Draw(image)
    (x, y), radius = picture.centre, picture.radius
    box = (x - radius, y - radius, x + radius, y + radius)
    if picture.shape == "circle":
        draw.ellipse(box, fill=picture.paint)
    elif picture.shape == "square":
        draw.rectangle(box, fill=picture.paint)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=picture.paint)
    return image


def _tinted(colour: tuple[int, int, int], rng: random.Random, *, spread: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, channel + rng.randint(-spread, spread))) for channel in colour)
    return red, green, blue
