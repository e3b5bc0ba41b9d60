"""The images of a row: from one of its image columns, or from the parts of its messages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from triptych_data.addresses import is_address, is_data_address, is_local
from triptych_data.formats.columns import CONVERSATIONS, IMAGES, QUESTIONS, Columns, is_empty, listed_text
from triptych_data.formats.entry import DESCRIPTIONS, ENTRY_KEYS, PLACES_OF_IMAGES, SOURCES
from triptych_data.formats.media import FRAMES, media_file
from triptych_data.formats.record import RowError
from triptych_data.formats.same_file import is_among
from triptych_data.formats.turns import is_turns
from triptych_data.sniff import is_base64_image, sniff

Named = tuple[Any, str | None]  # an image and its name
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jfif")
_PLACES = ("image_path", "image_paths", "image_url", "image_urls", "path")
_TAG = re.compile(r"<[^<>\s:|]+>")


def read_images(columns: Columns, inline: Sequence[Named]) -> list[Named]:
    """Return the images of a row in order, from its parts or its columns; raise RowError if two of these differ."""
    given = {name: listed(value) for name, value in columns.given(IMAGES).items()}
    path = given.get("path")
    if path is not None and len(given) + bool(inline) > 1 and not any(map(_may_be_image, path)):
        columns.read.remove("path")  # next to other images a path may lead anywhere
        del given["path"]
    for name in _origins(given, inline):
        columns.read.remove(name)
        columns.origins.add(name)
        del given[name]
    for name, images in given.items():
        for image, _ in images:
            media = media_file(_path(image) if isinstance(image, Mapping) else image)
            if media is not None:
                raise RowError(f"expected images in {name}, got {media}", remedy=FRAMES[media])
    found = [("the content parts", list(inline))] if inline else []
    found += list(given.items())
    for (first, images), (second, others) in itertools.pairwise(found):
        if [image for image, _ in images] != [image for image, _ in others]:
            raise RowError(
                f"expected the images in one place, got different ones in {first} and {second}",
                remedy=f"remove {second}, or {first}",
            )
    return found[0][1] if found else []


def _origins(given: Mapping[str, Sequence[Named]], inline: Sequence[Named]) -> list[str]:
    """The columns with one path or address for each image of another column, from which it comes: next to bytes or
    pixels every path does, next to a path an address or the same file by a longer or shorter path.
    """
    shown = [image for image, _ in inline]
    if not shown:
        lists = [[image for image, _ in images] for images in given.values()]
        here = [images for images in lists if not any(map(_is_remote, images))]
        shown = next((images for images in here if all(map(_is_embedded, images))), (here or lists or [[]])[0])
    return [
        name
        for name, places in given.items()
        if name in _PLACES
        and [place for place, _ in places] != shown
        and len(places) == len(shown)
        and all(_is_origin(place, image) for (place, _), image in zip(places, shown, strict=True))
    ]


def _is_origin(place: Any, image: Any) -> bool:
    if not isinstance(place, str) or _is_embedded(place):
        return False
    return _is_embedded(image) or (_is_remote(place) and not _is_remote(image)) or is_among(place, [image])


def _is_embedded(image: Any) -> bool:
    """Whether an entry contains the image itself: bytes, pixels, or a text of these."""
    if isinstance(image, Mapping):
        return any(not is_empty(image.get(key)) for key in ("bytes", "base64")) or _is_embedded(image.get("image"))
    if isinstance(image, str):
        return is_data_address(image) or is_base64_image(image)
    return isinstance(image, (bytes, bytearray, Image.Image))


def _is_remote(image: Any) -> bool:
    return isinstance(image, str) and is_address(image) and not is_local(image)


def _may_be_image(named: Named) -> bool:
    """Whether an entry of a column `path` is an image, or more than a text: a mapping may contain images."""
    return not isinstance(named[0], (str, int, float)) or is_image_file(named[0])


def listed(value: object) -> list[Named]:
    """Return (image, name) of an image column: an image, a list of them, a mapping by name, or text that writes one."""
    value = listed_text(value)
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if isinstance(value, Mapping) and not _is_one_image(value):
        return [(image, str(name)) for name, image in value.items()]
    return [_named(value)]


def names_images(row: Mapping[str, Any]) -> bool:
    """Return whether a row says by itself which images it has, in a column or in the parts of its messages."""
    columns = Columns(row)
    if columns.given(IMAGES):
        return True
    conversations: list[Any] = [listed_text(value) for value in columns.given((*CONVERSATIONS, *QUESTIONS)).values()]
    contents = [turn.get("content") for turns in conversations if is_turns(turns) for turn in turns]
    return any(
        isinstance(part, Mapping) and any(not is_empty(part.get(key)) for key in ("image_url", *SOURCES))
        for content in contents
        if isinstance(content, (list, tuple))
        for part in content
    )


def as_names(images: Sequence[Named]) -> tuple[list[Any], list[str | None], dict[str, str]]:
    """Return (images, names, what represents each in the text) for names written as tags: "<image_00>" (MiniCPM)."""
    tags = {name: f"<image:{name[1:-1]}>" for _, name in images if name is not None and _TAG.fullmatch(name)}
    if set(tags) == {"<image>"}:
        return [image for image, _ in images], [None] * len(images), {}
    names = [None if name is None else name[1:-1] if name in tags else name for _, name in images]
    return [image for image, _ in images], names, tags


def is_image_file(value: object) -> bool:
    """Return whether a value is an image or says where an image is: a path that ends as images do, bytes, a file, a PIL
    image.
    """
    if isinstance(value, str):
        path = value.partition("?")[0].strip().lower()
        return path.startswith("data:image/") or path.endswith(_SUFFIXES) or is_base64_image(value)
    if isinstance(value, Mapping):
        return any(not is_empty(value.get(name)) for name in SOURCES)
    if isinstance(value, (bytes, bytearray)):
        return sniff(bytes(value[:32])) not in ("EMPTY", "TEXT", "UNKNOWN", "MP4")
    return isinstance(value, Image.Image)


def _named(item: Any) -> Named:
    """{"name": ..., "image": ..., and limits} as the image and its name."""
    if isinstance(item, str) or not isinstance(item, Mapping) or item.get("name") is None or item.get("image") is None:
        return item, None
    rest = {key: value for key, value in item.items() if key != "name" and value is not None}
    return (rest["image"] if set(rest) == {"image"} else rest), str(item["name"])


def _path(image: Mapping[str, Any]) -> object:
    return next((image[name] for name in SOURCES[1:] if image.get(name)), None)


def _is_one_image(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is an image, and not images by their names; also one that is refused for what its keys are."""
    return any(name in value for name in ENTRY_KEYS) or (bool(value) and set(value) <= PLACES_OF_IMAGES | DESCRIPTIONS)
