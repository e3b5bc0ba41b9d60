"""Images in columns that nobody has read, at any depth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triptych_data.formats.columns import listed_text
from triptych_data.formats.input_names import IMAGE_COUNT, IMAGE_ORDER, IS_IMAGE
from triptych_data.formats.media import FRAMES, media_file
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.record import RowError, shown
from triptych_data.formats.same_file import file_names, is_among
from triptych_data.sniff import is_base64_image

_IMAGE_NAME = re.compile(
    r"(?:^|_|(?<=[a-z]))(?:image|img|picture|photo|screenshot|frame)s?(?:$|_|\d)|^pixel_values", re.IGNORECASE
)
_TARGET = re.compile(r"(?:^|_)targets?(?:_|$)", re.IGNORECASE)
_FOR_REWARDS = re.compile(r"(?:^|_)(mask|segmentation|label|gt)s?(?:_|$)", re.IGNORECASE)
# Beside other images, a text that ends as a file does may say where these were taken from.
_ORIGIN = re.compile(
    r"(?:^|_|^(?:image|img|picture|photo)|(?-i:(?<=[a-z])(?=[A-Z])))(file_?name|name|source|src|origin(al)?|url|id|key)s?$|"
    r"^(original|source|raw)_",
    re.IGNORECASE,
)
# What the files of the shown images are called in a column, and below a key of a column that says more about the row.
_FILES = re.compile(r"(image|img|picture|photo|screenshot)s?_?(source|src|file_?name|origin)s?", re.IGNORECASE)
_ABOUT = re.compile(
    r"([a-z]+_)*(meta(_?(data|info))?|info(rmation)?|extras?|provenance|details)|(image|img)_(meta|info)[a-z]*",
    re.IGNORECASE,
)
_FILES_INSIDE = re.compile(
    rf"{_FILES.pattern}|((image|img|picture|photo|screenshot)s?_?)?(path|file|url|key)s?", re.IGNORECASE
)


def check_image(name: str, value: Any, images: Sequence[Any], *, place: str) -> None:
    """Raise RowError for an image, a film or a sound in a column that nobody has read, unless it is among `images`.

    `place` says where it belongs.
    """
    if _FOR_REWARDS.search(name) or (images and _TARGET.search(name)):
        return
    if _FILES.fullmatch(name) and 0 < _num_texts(value) <= len(images):
        return
    if isinstance(value, Mapping) and _ABOUT.fullmatch(name):
        value = {key: inner for key, inner in value.items() if not _are_origins(str(key), inner, len(images))}
    entries = list(_entries(value))
    files = [entry for entry in entries if is_image_file(entry)]
    unseen = [entry for entry in files if not is_among(entry, images)]
    media = next((kind for entry in entries if (kind := media_file(entry))), None)
    is_named = _IMAGE_NAME.search(name) is not None or not (_says_more(name, value) or _ORIGIN.search(name))
    if media is not None and (not images or is_named or any(isinstance(entry, Mapping) for entry in entries)):
        raise RowError(f"expected text and images, got {media} in the column {name}", remedy=FRAMES[media])
    if not files and IS_IMAGE.fullmatch(name) and not _ORIGIN.search(name):
        files = unseen = [entry for entry in entries if _names_a_file(entry) and not is_among(entry, images)]
    inner = [entry for entry in _named_inside(value) if is_image_file(entry) and not is_among(entry, images)]
    if inner and all(map(file_names, images)):
        unseen, is_named = inner, True
    if unseen and (is_named or not images or any(_is_file(entry) for entry in unseen)):
        raise RowError(
            f"expected every image in the column images, got {shown(unseen[0])} in {name}, which is not read",
            remedy=f"put it {place}, or call the column reward_{name} where only rewards need it",
        )


def _says_more(name: str, value: Any) -> bool:
    """Whether a value is a mapping about the row, and not images by their names."""
    return isinstance(value, Mapping) and not (
        _ABOUT.fullmatch(name) is None and value and all(map(is_image_file, value.values()))
    )


def check_order(name: str, value: Any, num_images: int) -> None:
    """Raise RowError if a column gives another order or another number of images than the row's images have."""
    value = listed_text(value)
    orders = [list(range(start, start + num_images)) for start in (0, 1)]
    if (
        IMAGE_ORDER.fullmatch(name)
        and isinstance(value, (list, tuple))
        and num_images > 1
        and list(value) not in orders
    ):
        raise RowError(
            f"expected the images in the order of the prompt, got another one in the column {name}, which is not read",
            remedy=f"give the images in that order, or call the column reward_{name} where only rewards need it",
        )
    if IMAGE_COUNT.fullmatch(name) and str(value).isdecimal() and num_images not in (0, int(str(value))):
        raise RowError(
            f"expected {value} images, as the column {name} says, got {num_images}",
            remedy=f"give all images of the row, correct {name}, or call it reward_{name} where only rewards need it",
        )


def _are_origins(key: str, value: Any, num_images: int) -> bool:
    """Whether a key about the row has one path or address for each image that is shown."""
    return _FILES_INSIDE.fullmatch(key) is not None and 0 < _num_texts(value) == num_images


def _num_texts(value: Any) -> int:
    """How many paths or addresses a value consists of; 0 if it contains anything else."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    are_names = all(isinstance(text, str) and text and not _is_file(text) for text in texts)
    return len(texts) if are_names else 0


def _entries(value: Any) -> Iterator[Any]:
    """What a value contains, however deep: texts, numbers, bytes, and mappings that are files."""
    if isinstance(value, Mapping) and not is_image_file(value):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _entries(entry)
    else:
        yield value


def _named_inside(value: Any, *, is_named: bool = False) -> Iterator[Any]:
    """What is below keys that are named as images are, in a mapping however deep."""
    if isinstance(value, Mapping) and not (is_named and is_image_file(value)):
        for key, inner in value.items():
            is_image = _IMAGE_NAME.search(str(key)) and not _ORIGIN.search(str(key))
            if not _FOR_REWARDS.search(str(key)) and not _TARGET.search(str(key)):
                yield from _named_inside(inner, is_named=is_named or bool(is_image))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _named_inside(inner, is_named=is_named)
    elif is_named:
        yield value


def _names_a_file(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) == 1 and re.search(r"[\d/._-]", value) is not None


def _is_file(value: Any) -> bool:
    """Whether a value is pixels or a file itself, and no text that happens to name one."""
    return not isinstance(value, str) or value[:11].lower() == "data:image/" or is_base64_image(value)
