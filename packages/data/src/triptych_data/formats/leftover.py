"""Columns that nobody has read: refused by name where they look like input, left for rewards otherwise."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.formats.columns import (
    ANSWERS,
    CONVERSATIONS,
    IMAGES,
    LABELS,
    OPTIONS,
    PIXELS,
    QUESTIONS,
    SYSTEM,
    Columns,
    is_empty,
    listed_text,
)
from triptych_data.formats.leftover_images import check_image
from triptych_data.formats.media import FRAMES, media_file, media_kind
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.prompts import MARKER, are_written, content_text, offered_options
from triptych_data.formats.record import RowError, shown
from triptych_data.formats.turns import is_turns, read_turns

_TOOLS = re.compile(
    r"(available[_ ]?)?(tool|function)s?([_ ]?(call|schema|def|definition|list|info|description)s?)?", re.IGNORECASE
)
_SYSTEM = re.compile(r"sys(tem)?[ _-]?(prompt|message|msg|instruction|text|content)?s?", re.IGNORECASE)
_TEXTS = re.compile(
    r"(((task|format|answer|output|user|extra|additional|global)_?)?instruction|input|context|passage|premise|hint|"
    r"article|document|paragraph|background|persona|preamble|knowledge|fact|story|distractor|"
    r"few_?shot|demonstration|demo|few_?shot_example|in_?context_example|(pre|post)_?prompt|prompt_template|"
    r"(sub|second|next|other|user|format)_?(question|problem|query|prompt)|(question|problem|query|prompt)s?_?[2-9]|"
    r"questions|question_text|follow_?up(_question)?|sentence|lecture|goal|rule|step_instruction|"
    r"table|(previous|past|prior|earlier)_?(action|step|turn)|"
    r"((prompt|question|query|problem)_?)?(prefix|suffix))s?|"
    r"((action|step|chat|dialog|dialogue|conversation)_?)?history",
    re.IGNORECASE,
)
_PICTURE_ID = re.compile(r"(image|img|picture|photo|screenshot)_?(id|name|key|file)s?", re.IGNORECASE)
_CHANGES = re.compile(r"crop(_?(box|bbox|region|area))?|rotate|rotation|flip|resize", re.IGNORECASE)
_FOLDER = re.compile(
    r"(image|img|picture|photo|media)s?_?(folder|dir|directory|root|base|base_?path|root_?path)|data_path",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
_OPTION = re.compile(r"[A-Ha-h]|op[a-h]|(option|choice)[_ -]?([A-Ha-h]|[0-9])")
_LIMITS = re.compile(
    r"resized_(height|width)|((image|video)_)?(min|max)_?pixels|(min|max)_image_pixels|total_pixels|image_resolution|"
    r"(mm_processor|processor|images)_kwargs|(min|max)_dynamic_patch|max_slice_nums|max_num_tiles",
    re.IGNORECASE,
)
_NAMES_OF_INPUT = (_TOOLS, _SYSTEM, _LIMITS, _TEXTS, _OPTION, _PICTURE_ID, _CHANGES, _FOLDER)
_READ_ELSEWHERE = {*ANSWERS, *OPTIONS, "objects"}
_LOOKED_FOR = {
    *(*CONVERSATIONS, *QUESTIONS, *IMAGES, *ANSWERS, *LABELS, *SYSTEM, *OPTIONS, *PIXELS),
    *("id", "history", "objects", "reward_model", "data_type", "chat_template_kwargs"),
}
_RENDERED = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>(?=user|model)|<\|turn>(?=user|model)|"
    r"<\|start\|>(?=user|system|assistant)|^\s*(?:<s>\s*)?\[INST\]|<\|(?:user|assistant|system)\|>|"
    r"^\s*USER:(?=.*ASSISTANT:\s*$)",
    re.DOTALL,
)
_MARKS = re.compile(r"<\|?(video|audio)(?:_?pad|_bos|_start|[ _-]?[0-9]{1,4})?\|?>", re.IGNORECASE)


_MEANT = {name.lower(): name for name in (*CONVERSATIONS, *QUESTIONS, *OPTIONS) if name != "message"}


def _meant(name: str) -> str | None:
    """The column that a name means which is one but for capitals, hyphens and spaces: `Options`, `answer-choices`."""
    known = _MEANT.get(re.sub("[ -]", "_", name).lower())
    return None if known == name else known


def refuse_unread(columns: Columns, *, prompt: str, images: Sequence[Any]) -> None:
    """Raise RowError for the first column that looks like input and was not read.

    `prompt` is the text of the prompt, `images` are those that were read.
    """
    for column, options in offered_options(columns.row):
        if not are_written(options, prompt):
            raise RowError(
                f"expected the {column} in the prompt, got {shown(options)} in a column that is not read",
                remedy=f"write them into the prompt, or call the column reward_{column} where only rewards need it",
            )
    unread = columns.unread()
    _check_option_columns(unread, prompt)
    for name, value in unread.items():
        if not _says_nothing(value) and name not in _READ_ELSEWHERE and not str(name).startswith("reward"):
            _check(str(name), value, prompt=prompt, images=images)
    check_image("objects", listed_text(columns.row.get("objects")), images)


@functools.lru_cache(maxsize=4096)  # the same columns in every row
def is_free_name(name: object) -> bool:
    """Return whether a column has a name that no reader of rows looks for, and that would be refused for no text or
    number.
    """
    if not isinstance(name, str) or name in _LOOKED_FOR or media_kind(name) is not None:
        return False
    return _meant(name) is None and not any(form.fullmatch(name) for form in _NAMES_OF_INPUT)


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
    """Whether a value is empty however deep, as `[None]` and `[[]]` are."""
    return is_empty(value) or (isinstance(value, (list, tuple)) and all(map(_says_nothing, value)))


def _check(name: str, value: Any, *, prompt: str, images: Sequence[Any]) -> None:
    if _TOOLS.fullmatch(name) and (name == "tools" or not isinstance(listed_text(value), (str, bool, int, float))):
        raise RowError(
            f"expected a prompt without tools, got the column {name}, which is not read",
            remedy="write the tools into the column system as text, and remove the column",
        )
    meant = _meant(name)
    if meant is not None and not _is_written(value, prompt):
        raise RowError(
            f"expected a column called {meant}, got {name}, which is not read",
            remedy=f"call it {meant}, or reward_{name} where only rewards need it",
        )
    if _SYSTEM.fullmatch(name) and isinstance(value, (str, list, tuple)):
        raise RowError(
            f"expected the system text in the column system, got the column {name}, which is not read",
            remedy=f"call it system, or reward_{name} where only rewards need it",
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
    if _TEXTS.fullmatch(name) and not isinstance(value, bool) and not _is_written(value, prompt):
        raise RowError(
            f"expected the whole text in the prompt, got the column {name}, which is not read",
            remedy=f"write it into the prompt, or call it reward_{name} where only rewards need it",
        )
    if _is_chat(value) and not _are_said(value, prompt):
        raise RowError(
            f"expected one conversation in the row, got another one in the column {name}, which is not read",
            remedy=f"write its turns into the prompt, or call it reward_{name} where only rewards need it",
        )
    if images and _CHANGES.fullmatch(name) and value not in (False, 0):
        raise RowError(
            f"expected the images as the model shall see them, got the column {name}, which is not read",
            remedy=f"change the image files themselves, or call it reward_{name} where only rewards need it",
        )
    if _FOLDER.fullmatch(name) and isinstance(value, str) and not _are_inside(images, value):
        raise RowError(
            f"expected images by their whole path under the image root, got the folder {shown(value)} in {name}, which "
            "is not read",
            remedy=f"write the folder into the paths of the images and remove {name}, or call it reward_{name} where "
            "only rewards need it",
        )
    if not images and _PICTURE_ID.fullmatch(name) and isinstance(value, (str, int)) and not isinstance(value, bool):
        raise RowError(
            f"expected the row's image in the column images, got {shown(value)} in {name} and no image",
            remedy=f"put the path of that image into images, or call the column reward_{name} where the row has none",
        )
    check_image(name, value, images)


def _are_inside(images: Sequence[Any], folder: str) -> bool:
    """Whether every image with a relative path has one that begins with the folder."""
    paths = [image.get("path") if isinstance(image, Mapping) else image for image in images]
    relative = [path for path in paths if isinstance(path, str) and not _ABSOLUTE.match(path)]
    return all(path.startswith(folder.rstrip("/") + "/") for path in relative)


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
    found = {name: value for name, value in unread.items() if _OPTION.fullmatch(str(name))}
    texts = {
        name: str(value)
        for name, value in found.items()
        if value != "" and isinstance(value, str if name in "abcdefgh" else (str, int, float))
    }
    if (len(texts) > 1 or any(len(name) > 1 for name in texts)) and not are_written(list(texts.values()), prompt):
        raise RowError(
            f"expected the options in the prompt, got the columns {', '.join(texts)}, which are not read",
            remedy='write them into the prompt, or give them as the column options, ["A. ...", "B. ..."]',
        )


def _is_written(value: Any, prompt: str) -> bool:
    """Return whether a text, or each text of a list, is in the prompt."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(text, str) and text.strip() in prompt for text in texts)
