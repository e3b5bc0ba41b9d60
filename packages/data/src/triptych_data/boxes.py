"""Boxes follow their image: through the EXIF orientation first, then through the resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from triptych_data.budget import Size
from triptych_data.example import Example
from triptych_data.formats.columns import listed_text
from triptych_data.header import ImageHeader, read_header
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.resize import letterbox_place

Box = Sequence[float]


def follow_box(
    box: Box,
    *,
    header: ImageHeader,
    size: Size | None = None,
    fit: Literal["stretch", "letterbox"] = "stretch",
    coordinates: Literal["pixels", "unit"] = "pixels",
) -> list[float]:
    """A box or polygon [x, y, x, y, ...] of the file's stored pixels, in pixels of the image as the model sees it.

    `header` is the image's, `size` its (height, width) after resizing, None where it is not resized. "unit" boxes are
    given in shares of the stored width and height. Corners stay ordered: x1 <= x2 and y1 <= y2 for boxes.
    """
    if len(box) % 2 or not box:
        raise ValueError(f"expected a box as pairs of x and y, got {len(box)} numbers")
    turned = header.orientation >= 5
    width, height = (header.height, header.width) if turned else (header.width, header.height)  # as stored
    scale = (width, height) if coordinates == "unit" else (1, 1)
    points = [
        _turn(x * scale[0], y * scale[1], width=width, height=height, orientation=header.orientation)
        for x, y in zip(box[::2], box[1::2], strict=True)
    ]
    if size is not None:
        points = [_resize(point, header, size, fit) for point in points]
    if len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = [(min(x1, x2), min(y1, y2)), (max(x1, x2), max(y1, y2))]
    return [value for point in points for value in point]


def follow_objects(
    example: Example,
    *,
    sizes: Sequence[Size | None] | None = None,
    fit: Literal["stretch", "letterbox"] = "stretch",
    policy: ImagePolicy = DEFAULT_POLICY,
) -> dict[str, Any] | None:
    """`extras["objects"]` with its boxes in pixels of the images as the model sees them; None without objects.

    `sizes` are those of an `ImagePlan`. A box belongs to the image that `image_id` says, the first where it is silent.
    """
    objects = listed_text(example.extras.get("objects"))
    if not isinstance(objects, Mapping):
        return None
    boxes = objects.get("bbox") or []
    owners = objects.get("image_id") or [0] * len(boxes)
    coordinates: Literal["pixels", "unit"] = "unit" if objects.get("bbox_type") == "norm1" else "pixels"
    headers = {owner: read_header(example.images[owner], policy=policy) for owner in set(owners[: len(boxes)])}
    followed = [
        follow_box(
            box,
            header=headers[owner],
            size=None if sizes is None else sizes[owner],
            fit=fit,
            coordinates=coordinates,
        )
        for box, owner in zip(boxes, owners, strict=True)
    ]
    return {**objects, "bbox": followed, "bbox_type": "real"}


def _turn(x: float, y: float, *, width: float, height: float, orientation: int) -> tuple[float, float]:
    """A point of the stored image in the upright one (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        x, y, width, height = y, x, height, width
    if orientation in (3, 4, 7, 8):
        y = height - y
    if orientation in (2, 3, 6, 7):
        x = width - x
    return x, y


def _resize(point: tuple[float, float], header: ImageHeader, size: Size, fit: str) -> tuple[float, float]:
    if fit == "letterbox":
        inner, (top, left) = letterbox_place(header.height, header.width, size)
    else:
        inner, (top, left) = size, (0, 0)
    return point[0] * inner[1] / header.width + left, point[1] * inner[0] / header.height + top
