"""Columns that nobody has read: refused by name where they look like input, left for rewards otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from triptych_data.formats.columns import (
    ANSWERS,
    CONVERSATIONS,
    LABELS,
    OPTIONS,
    PIXELS,
    Columns,
    is_empty,
    is_nan,
    listed_text,
)
from triptych_data.formats.entry import meant_limit
from triptych_data.formats.input_names import (
    CAPTIONS,
    CHANGES,
    FOLDER,
    FURTHER_TEXTS,
    LIMITS,
    OPTION,
    PICTURE_ID,
    SYSTEM_TEXT,
    TEXTS,
    TOOLS,
    meant,
    plain_name,
)
from triptych_data.formats.leftover_images import check_image, check_order
from triptych_data.formats.media import FRAMES, media_file, media_kind
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.prompts import content_text, offered_options, option_images
from triptych_data.formats.record import RowError, shown
from triptych_data.formats.turns import is_turns, read_turns
from triptych_data.formats.written import MARKER, are_written, is_written, says_nothing, texts_in

_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
_READ_ELSEWHERE = {*ANSWERS, *OPTIONS, "objects"}
_RENDERED = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>(?=user|model)|<\|turn>(?=user|model)|"
    r"<\|start\|>(?=user|system|assistant)|^\s*(?:<s>\s*)?\[INST\]|<\|(?:user|assistant|system)\|>|"
    r"^\s*USER:(?=.*ASSISTANT:\s*$)",
    re.DOTALL,
)
_MARKS = re.compile(r"<\|?(video|audio)(?:_?pad|_bos|_start|[ _-]?[0-9]{1,4})?\|?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Contains what was read of a row, with which its other columns are compared."""

    prompt: str
    """All that is said in it."""
    source: str
    """The column that it comes from."""
    images: Sequence[Any]
    place: str
    """Where a further image belongs, for a remedy."""


def refuse_unread(columns: Columns, *, read: Read) -> None:
    """Raise RowError for the first column that looks like input and was not read."""
    prompt = read.prompt
    for column, options in offered_options(columns.row):
        if not are_written(options, prompt):
            raise RowError(
                f"expected the {column} in the prompt, got {shown(options)} in a column that is not read",
                remedy=f"write them into the prompt, or call the column reward_{column} where only rewards need it",
            )
    unread = columns.unread()
    _check_option_columns(unread, prompt)
    answers = [text for name in (*ANSWERS, *LABELS) for text in texts_in(columns.row.get(name))]
    for name, value in unread.items():
        if name in columns.origins:
            continue
        if not _says_nothing(value) and name not in _READ_ELSEWHERE and not str(name).startswith("reward"):
            _check(str(name), value, read=read, answers=answers)
    check_image("objects", listed_text(columns.row.get("objects")), read.images, place=read.place)
    for name in OPTIONS:
        check_image(name, option_images(columns.row.get(name)), read.images, place=read.place)


def refuse_media(row: Mapping[str, Any]) -> None:
    """Raise RowError for the first column that is named as a video or a sound and contains something."""
    for name, value in row.items():
        media = media_kind(str(name))
        if name == "data_type" and isinstance(value, str) and value.lower() in FRAMES:
            media = value.lower()
        if media is not None and not isinstance(value, (bool, int, float)) and not _says_nothing(value):
            raise RowError(f"expected text and images, got {media} in the column {name}", remedy=FRAMES[media])


def refuse_marks(text: str, *, what: str) -> None:
    """Raise RowError if a text says that a video or a sound is in it."""
    found = _MARKS.search(text)
    if found is not None:
        raise RowError(
            f"expected text and images, got {found[0]} in {what}",
            remedy=f"{FRAMES[found[1].lower()]}, or, for the literal text, write the content as parts: "
            '[{"type": "text", "text": ...}]',
        )


def refuse_rendered(text: str, *, what: str) -> None:
    """Raise RowError if a text has been through a chat template already: its special tokens would be ordinary text."""
    found = _RENDERED.search(text)
    if found is not None:
        raise RowError(
            f"expected a text that no chat template has written, got {found[0].strip()} in {what}",
            remedy='write its turns as messages, {"role": ..., "content": ...}, or, for the literal text, write the '
            'content as parts: [{"type": "text", "text": ...}]',
        )


def refuse_file_name(text: str, *, what: str) -> None:
    """Raise RowError if a whole text is the name of a file, or its bytes: the columns were taken for each other."""
    if len(text.split(maxsplit=1)) == 1 and (media_file(text) is not None or is_image_file(text)):
        raise RowError(
            f"expected a question or an instruction in {what}, got a file, {shown(text)}",
            remedy="write the text there, and an image into the column images, or, where this is the text, write the "
            'content as parts: [{"type": "text", "text": ...}]',
        )


def _says_nothing(value: Any) -> bool:
    """Whether a value is empty however deep, as `[None]` and `[[]]` are, also written as text."""
    value = listed_text(value)
    return is_empty(value) or is_nan(value) or (isinstance(value, (list, tuple)) and all(map(_says_nothing, value)))


def _check(column: str, value: Any, *, read: Read, answers: Sequence[str]) -> None:
    name, images = plain_name(column), read.images
    if TOOLS.fullmatch(name) and (name == "tools" or not isinstance(listed_text(value), (str, bool, int, float))):
        raise RowError(
            f"expected a prompt without tools, got the column {column}, which is not read",
            remedy="write the tools into the column system as text, and remove the column",
        )
    _check_meaning(column, value, prompt=read.prompt)
    if SYSTEM_TEXT.fullmatch(name) and isinstance(value, (str, list, tuple)):
        raise RowError(
            f"expected the system text in the column system, got the column {column}, which is not read",
            remedy=f"call it system, or reward_{column} where only rewards need it",
        )
    if name == "chat_template_kwargs":
        raise RowError(
            f"expected the chat template's arguments to be those of the run, got the column {column}",
            remedy="set them for the run, and remove the column",
        )
    if LIMITS.fullmatch(name):
        limit = meant_limit(column)
        raise RowError(
            f"expected limits of images as min_pixels and max_pixels, got the column {column}, which is not read",
            remedy=f"call it {limit}"
            if limit in PIXELS
            else "give each image its own, as "
            '{"path": ..., "max_pixels": ...} or {"path": ..., "resized_height": ..., "resized_width": ...}',
        )
    _check_texts(column, value, read=read, answers=answers)
    if images and CHANGES.fullmatch(name) and value not in (False, 0):
        raise RowError(
            f"expected the images as the model shall see them, got the column {column}, which is not read",
            remedy=f"change the image files themselves, or call it reward_{column} where only rewards need it",
        )
    if FOLDER.fullmatch(name) and isinstance(value, str) and not _are_inside(images, value):
        raise RowError(
            f"expected images by their whole path under the image root, got the folder {shown(value)} in {column}, "
            "which is not read",
            remedy=f"write the folder into the paths of the images and remove {column}, or call it reward_{column} "
            "where only rewards need it",
        )
    if not images and PICTURE_ID.fullmatch(name) and isinstance(value, (str, int)) and not isinstance(value, bool):
        raise RowError(
            f"expected the row's image in the column images, got {shown(value)} in {column} and no image",
            remedy=f"put the path of that image into images, or call the column reward_{column} where the row has none",
        )
    check_order(name, value, len(images))
    check_image(column, value, images, place=read.place)


def _check_texts(column: str, value: Any, *, read: Read, answers: Sequence[str]) -> None:
    """RowError for texts that the model should see: of the question, of the images, or of another conversation."""
    name, prompt = plain_name(column), read.prompt
    if not isinstance(value, bool) and _is_left_out(name, value, prompt, answers):
        pairs = listed_text(value) if name == "history" and read.source in CONVERSATIONS else None
        is_history = isinstance(pairs, list) and all(isinstance(pair, list) for pair in pairs)
        raise RowError(
            f"expected the whole text in the prompt, got the column {column}, which is not read",
            remedy=f"write {f'its turns at the start of {read.source}' if is_history else 'it into the prompt'}, or "
            f"call it reward_{column} where only rewards need it",
        )
    if CAPTIONS.fullmatch(name) and _has_one_for_each(read.images, value) and not is_written(value, prompt):
        raise RowError(
            f"expected the texts of the images in the prompt, got the column {column}, which is not read",
            remedy=f"write each next to its image, or call the column reward_{column} where only rewards need it",
        )
    if _is_chat(value) and not _are_said(value, prompt):
        raise RowError(
            f"expected one conversation in the row, got another one in the column {column}, which is not read",
            remedy=f"write its turns into the prompt, or call it reward_{column} where only rewards need it",
        )


def _has_one_for_each(images: Sequence[Any], value: Any) -> bool:
    texts = listed_text(value)
    are_texts = isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)
    return are_texts and len(texts) == len(images) > 1  # type: ignore[arg-type]


def _check_meaning(column: str, value: Any, *, prompt: str) -> None:
    """RowError for a column that is called as one that is read, but for capitals, and says more than the prompt."""
    known = meant(column)
    if known in OPTIONS:
        is_said = all(are_written(texts, prompt) for _, texts in offered_options({known: value}))
        is_said = is_said and not option_images(value)
    else:
        is_said = is_written(value, prompt)
    if known is not None and not is_said:
        raise RowError(
            f"expected a column called {known}, got {column}, which is not read",
            remedy=f"call it {known} or write it there, or call it reward_{column} where only rewards need it",
        )


def _is_left_out(name: str, value: Any, prompt: str, answers: Sequence[str]) -> bool:
    """Whether a column says what the model should see, and the prompt does not."""
    if TEXTS.fullmatch(name):
        return not is_written(value, prompt)
    if not FURTHER_TEXTS.fullmatch(name):
        return False
    texts = [text for text in texts_in(value) if len(text.split()) > 1 and text not in answers]
    return not is_written(texts, prompt)


def _are_inside(images: Sequence[Any], folder: str) -> bool:
    """Whether every image with a relative path has one that begins with the folder."""
    paths = [image.get("path") if isinstance(image, Mapping) else image for image in images]
    relative = [path for path in paths if isinstance(path, str) and not _ABSOLUTE.match(path)]
    parts = PurePosixPath(folder).parts
    return all(PurePosixPath(path).parts[: len(parts)] == parts for path in relative)


def _is_chat(value: Any) -> bool:
    """Whether a value is a list of messages with their speakers, or text that writes one."""
    turns: Any = listed_text(value)
    return is_turns(turns) and all(
        not turn.keys().isdisjoint(("role", "from")) and not turn.keys().isdisjoint(("content", "value"))
        for turn in turns
    )


def _are_said(chat: Any, prompt: str) -> bool:
    """Whether the prompt contains what others than the assistant say in a conversation."""
    said = " ".join(MARKER.sub(" ", prompt).split())
    turns = [turn for turn in read_turns(chat, what="a conversation") if turn["role"] != "assistant"]
    texts = [MARKER.sub(" ", content_text(turn["content"])) for turn in turns]
    return all(" ".join(text.split()) in said for text in texts)


def _check_option_columns(unread: Mapping[str, Any], prompt: str) -> None:
    """RowError for options that have one column each (MMBench's A, B, C, D) and are not in the prompt."""
    found = {name: value for name, value in unread.items() if OPTION.fullmatch(plain_name(str(name)))}
    texts = {
        name: str(value)
        for name, value in found.items()
        if isinstance(value, str if name in "abcdefgh" else (str, int, float))
        and not says_nothing(str(value))
        and not is_image_file(value)
    }
    if (len(texts) > 1 or any(len(name) > 1 for name in texts)) and not are_written(list(texts.values()), prompt):
        raise RowError(
            f"expected the options in the prompt, got the columns {', '.join(texts)}, which are not read",
            remedy='write them into the prompt, or give them as the column options, ["A. ...", "B. ..."]',
        )
