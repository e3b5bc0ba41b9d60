"""The overview of closed boxes, and what a box shows when it is opened: 28 x 28 pixels and one image token a box."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from triptych_trainer.demo.look.task import Inside
from triptych_trainer.demo.pictures import COLOURS

__all__ = ["SIDE_PIXELS", "blank", "draw_inside", "draw_overview"]

SIDE_PIXELS = 28
_GROUND, _WOOD, _BAR = (226, 226, 226), (84, 56, 36), (255, 255, 255)


def draw_overview(lids: Sequence[str]) -> Image.Image:
    """Draw closed boxes in a row; each has a lid in its colour and as many bars as its number."""
    image = Image.new("RGB", (SIDE_PIXELS * len(lids), SIDE_PIXELS), _GROUND)
    draw = ImageDraw.Draw(image)
    for k, lid in enumerate(lids):
        left = k * SIDE_PIXELS
        draw.rectangle((left + 1, 14, left + 26, 27), fill=_WOOD)
        draw.rectangle((left, 1, left + 27, 13), fill=COLOURS[lid])
        for bar in range(k + 1):
            start = left + 3 + 8 * bar
            draw.rectangle((start, 16, start + 5, 25), fill=_BAR)
    return image


def draw_inside(inside: Inside) -> Image.Image:
    """Draw an open box: its wooden rim, and the coloured shape that is in it."""
    image = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), _WOOD)
    draw = ImageDraw.Draw(image)
    draw.rectangle((2, 2, 25, 25), fill=_GROUND)
    paint = COLOURS[inside.colour]
    if inside.shape == "circle":
        draw.ellipse((5, 5, 22, 22), fill=paint)
    elif inside.shape == "square":
        draw.rectangle((6, 6, 21, 21), fill=paint)
    else:
        draw.polygon([(14, 4), (4, 22), (23, 22)], fill=paint)
    return image


def blank() -> Image.Image:
    """Return a grey picture, which an opened box shows where the tool is switched off by ``--blank_tool``."""
    return Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), (128, 128, 128))
