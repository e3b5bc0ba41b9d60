"""Columns that nobody has read: refused by name where they look like input, left for rewards otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from triptych_data.formats.columns import ANSWERS, OPTIONS, Columns, is_empty
from triptych_data.formats.media import FRAMES, media_file, media_kind
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.prompts import are_written, options_of
from triptych_data.formats.record import RowError, shown

_IMAGE_NAME = re.compile(
    r"(?:^|_|(?<=[a-z]))(?:image|img|picture|photo|screenshot|frame)s?(?:$|_|\d)|^pixel_values", re.IGNORECASE
)
_TOOLS = ("tools", "functions", "tool_calls")
_TEXTS = ("instruction", "input", "history")
_LIMITS = re.compile(
    r"resized_(height|width)|(image|video)_(min|max)_pixels|(min|max)_image_pixels|total_pixels|image_resolution|"
    r"(mm_processor|processor|images)_kwargs|(min|max)_dynamic_patch"
)
_READ_ELSEWHERE = {*ANSWERS, *OPTIONS, "objects"}
_FOR_REWARDS = re.compile(r"(?:^|_)(mask|segmentation|label|gt|target|reference)s?(?:_|$)", re.IGNORECASE)
_MARKS = re.compile(r"<\|?(video|audio)(?:_?pad|_bos|_start|[ _-]?[0-9]{1,4})?\|?>", re.IGNORECASE)


def refuse_unread(columns: Columns, *, prompt: str, images: Sequence[Any]) -> None:
    """RowError for the first column that looks like input and was not read.

    `prompt` is the text of the prompt, `images` are those that were read.
    """
    options = options_of(columns.row)
    if options is not None and not are_written(options[1], prompt):
        raise RowError(
            f"expected the {options[0]} in the prompt, got {shown(options[1])} in a column that is not read",
            remedy=f"write them into the prompt, or call the column reward_{options[0]} where only rewards need it",
        )
    for name, value in columns.unread().items():
        if not _says_nothing(value) and name not in _READ_ELSEWHERE and not str(name).startswith("reward"):
            _check(str(name), value, prompt=prompt, images=images)


def refuse_media(row: Mapping[str, Any]) -> None:
    """RowError for the first column that is named as a video or a sound and holds something."""
    for name, value in row.items():
        media = media_kind(str(name))
        if name == "data_type" and isinstance(value, str) and value.lower() in FRAMES:
            media = value.lower()
        if media is not None and not isinstance(value, (bool, int, float)) and not _says_nothing(value):
            raise RowError(f"expected text and images, got {media} in the column {name}", remedy=FRAMES[media])


def refuse_marks(text: str, *, what: str) -> None:
    """RowError where a text says that a video or a sound stands in it."""
    found = _MARKS.search(text)
    if found is not None:
        raise RowError(
            f"expected text and images, got {found[0]} in {what}",
            remedy=f"{FRAMES[found[1].lower()]}, or, for the literal text, write the content as parts: "
            '[{"type": "text", "text": ...}]',
        )


def _says_nothing(value: Any) -> bool:
    """Whether a value is empty however deep, as `[None]` and `[[]]` are."""
    return is_empty(value) or (isinstance(value, (list, tuple)) and all(map(_says_nothing, value)))


def _check(name: str, value: Any, *, prompt: str, images: Sequence[Any]) -> None:
    if name in _TOOLS:
        raise RowError(
            f"expected a prompt without tools, got the column {name}, which is not read",
            remedy="write the tools into the column system as text, and remove the column",
        )
    if name == "chat_template_kwargs":
        raise RowError(
            f"expected the chat template's arguments to be those of the run, got the column {name}",
            remedy="set them for the run, and remove the column",
        )
    if _LIMITS.fullmatch(name):
        raise RowError(
            f"expected limits of images as min_pixels and max_pixels, got the column {name}, which is not read",
            remedy="give each image its own, as "
            '{"path": ..., "max_pixels": ...} or {"path": ..., "resized_height": ..., "resized_width": ...}',
        )
    if name in _TEXTS and not (isinstance(value, str) and value.strip() in prompt):
        raise RowError(
            f"expected the whole text in the prompt, got the column {name}, which is not read",
            remedy=f"write it into the prompt, or call it reward_{name} where only rewards need it",
        )
    _check_image(name, value, images)


def _check_image(name: str, value: Any, images: Sequence[Any]) -> None:
    if _FOR_REWARDS.search(name):
        return
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, Mapping) and not is_image_file(value):
        entries = list(value.values())
    files = [entry for entry in entries if is_image_file(entry)]
    unseen = [entry for entry in files if not _is_among(entry, images)]
    media = next((kind for entry in entries if (kind := media_file(entry))), None)
    if media is not None and (not images or any(isinstance(entry, Mapping) for entry in entries)):
        raise RowError(f"expected text and images, got {media} in the column {name}", remedy=FRAMES[media])
    is_named = _IMAGE_NAME.search(name) is not None
    if unseen and (is_named or not images or any(_is_file(entry) for entry in unseen)):
        raise RowError(
            f"expected every image in the column images, got {shown(unseen[0])} in {name}, which is not read",
            remedy="put it into images, with an <image> where it belongs, "
            f"or call the column reward_{name} where only rewards need it",
        )


def _is_among(value: Any, images: Sequence[Any]) -> bool:
    if any(value is image or value == image for image in images):
        return True
    name = _file_name(value)
    return name is not None and name in map(_file_name, images)


def _file_name(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("path") or value.get("image")
    return PurePosixPath(value).name if isinstance(value, str) and not value.startswith("data:") else None


def _is_file(value: Any) -> bool:
    """Whether a value is pixels or a file itself, and no text that happens to name one."""
    return not isinstance(value, str) or value.startswith("data:image/")
