"""Whether a row says where its images belong in one way, and in a way that is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triptych_parser import Prompt, parse
from triptych_parser.dialects import DIALECTS

from triptych_data.example import ImageSource
from triptych_data.formats import Record, RowError
from triptych_data.formats.columns import listed_text
from triptych_data.formats.record import shown
from triptych_data.rows import SourceRow

_NUMBERED = re.compile(r"<image[ _-]?[0-9]{1,4}>")
_NAMED = re.compile(r"<(img|image)>[^<>\n]{0,4096}</\1>")
# What other projects write where an image belongs: <Image>, <img>, <image/>, <|image|>, <ImageHere>, {image}, [image],
# &lt;image&gt;, ![](a.png).
_WORD = r"(image|img|picture|photo|frame|screenshot)s?"
_ALIKE = re.compile(
    rf"< ?\|?/?{_WORD}([ _=#-]?(here|placeholder|token|pad|start|context|soft_token|[0-9]{{1,4}}))?[ /]{{0,2}}\|?>|"
    rf"<im_patch>|(&lt;|\uff1c){_WORD}([ _:-]?[0-9]{{1,4}})?(&gt;|\uff1e)|<img [^<>]{{1,4096}}>|"
    rf"\{{{_WORD}(_?[0-9]{{1,4}})?\}}|\[{_WORD}(_?[0-9]{{1,4}})?\]|!\[[^\]\n]{{0,300}}\]\([^)\s]{{1,4096}}\)",
    re.IGNORECASE,
)
_LAST_NUMBER = re.compile(r"[0-9]{1,9}$")
# Characters without width, which copied texts may have inside a marker.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# What stands for pixels in any text: the special tokens of models, a link to an image file, and an image as base64.
_PIXELS = re.compile(
    r"<\|(image|img)(_?pad|_[0-9]{1,4})?\|>|<\|vision_start\|>|<start_of_image>|<image_soft_token>|<IMG_CONTEXT>|"
    r"<image_placeholder>|<im_patch>|!\[[^\]\n]{0,300}\]\([^)\s]{1,4096}\.(png|jpe?g|webp|gif|bmp)\)|"
    r"<img\s[^<>]{0,300}src\s?=\s?[^<>]{1,4096}>|\\includegraphics(\[[^\]\n]{0,300}\])?\{[^{}\n]{1,4096}\}"
)
# Without images, what other projects write for one: words that a text about HTML or a program would write otherwise.
_LOST = re.compile(
    r"< ?(?i:images?)([ _=#-]?(?i:here|placeholder|token|pad|context|soft_token))?[ /]{0,2}>|"
    r"(&lt;|\uff1c)(?i:image)([ _:-]?[0-9]{1,4})?(&gt;|\uff1e)|\[(IMG|IMAGE|Image)([_ ]?[0-9]{1,4})?\]"
)
_BASE64 = re.compile(r"data:image/[a-z0-9.+-]{1,20};base64,[A-Za-z0-9+/]{40}", re.IGNORECASE)


def check_places(record: Record, *, dialect: str) -> None:
    """Raise RowError if parts and markers are mixed, or if a text writes markers that nobody reads."""
    if has_image_parts(record):
        for number, text in _strings(record):
            if parse(text, dialect=dialect).num_markers or _NUMBERED.search(text):
                raise RowError(
                    f"expected images as parts alone, got a marker in the text of message {number + 1} as well",
                    remedy="write the image as a part too, or, for the literal text, write the text as a part: "
                    '[{"type": "text", "text": ...}]',
                )
        return
    for number, text in _strings(record) if dialect == "image" else ():
        found = _NAMED.search(text)
        if found is not None:
            raise RowError(
                f"expected images in a column of their own, got {shown(found[0])} in message {number + 1}",
                remedy="write <image> in its place, and what it names into the column images",
            )
    for number, text in _strings(record):
        found = _BASE64.search(text) or (None if record.images else _PIXELS.search(text) or _lost(text, dialect))
        if found is not None:
            raise RowError(
                f"expected images in a column of their own, got {shown(found[0])} in message {number + 1}",
                remedy="write <image> in its place and the image into the column images, or, for the literal text, "
                'write the content as parts: [{"type": "text", "text": ...}]',
            )
    for number, text in _texts(record):
        found = _NUMBERED.search(text)
        if found is not None:
            raise RowError(
                f"expected images in text as <image>, <image:1> or <image:name>, "
                f"got {found[0]} in message {number + 1}",
                remedy="write <image:1> for the first image of the row, <image:2> for the second and so on",
            )


def _lost(text: str, dialect: str) -> re.Match[str] | None:
    """The mark of an image in a text of a row without images, unless it is one of the dialect: the parser reads it."""
    found = _LOST.search(_INVISIBLE.sub("", text))
    return None if found is None or parse(found[0], dialect=dialect).num_markers else found


def check_dialect(record: Record, *, dialect: str) -> None:
    """Raise RowError if a row with images has no marker of the dialect, but one as another dialect writes it."""
    for number, text in _texts(record):
        for other in DIALECTS.values():
            if other.opener and other.opener in text and parse(text, dialect=other.name).num_markers:
                raise RowError(
                    f"expected images in text as {dialect} writes them, got a marker as {other.name} writes it in "
                    f"message {number + 1}",
                    remedy="write <image> in its place",
                )
        found = _ALIKE.search(_INVISIBLE.sub("", text))
        if found is not None:
            hidden = "" if found[0] in text else " with an invisible character in it"
            raise RowError(
                f"expected images in text as {dialect} writes them, got {shown(found[0])}{hidden} in message "
                f"{number + 1}",
                remedy="write <image> in its place, or begin the text with an <image> for each image of the row",
            )


def check_packed(images: Sequence[ImageSource], row: SourceRow) -> None:
    """Raise RowError if an image that is packed next to a row is none of the row's images."""
    read = [image.ref for image in images]  # decoded images have no hash
    for member in dict.fromkeys((row.members or {}).values()):
        if member not in read:
            raise RowError(
                f"expected every packed file among the images of the row, got {member.name} as well",
                remedy="name it among the images, or leave all out of the row to have them in the order of the shard",
            )


def check_owners(record: Record, images: Sequence[ImageSource], unique: Sequence[ImageSource]) -> None:
    """Raise RowError if boxes name images by number and an earlier image is given twice, which shifts the numbers."""
    objects = listed_text(record.extras.get("objects"))
    owners = objects.get("image_id") if isinstance(objects, Mapping) else None
    for owner in owners or []:
        if unique.index(images[owner]) != owner:
            raise RowError(
                f"expected each image once where objects.image_id counts them, got image {owner + 1} again or after "
                "a repeated one",
                remedy="give each image once, and write <image:1> wherever the first belongs, <image:2> and so on",
            )


def check_named_order(record: Record, prompt: Prompt) -> None:
    """Raise RowError if images without markers by name have names whose numbers come in another order: 10 before 2."""
    if all(isinstance(marker.ref, str) for marker in prompt.markers) and prompt.num_markers:
        return
    numbered = [(name, int(found[0])) for name in record.names if name and (found := _LAST_NUMBER.search(name))]
    for (first, number), (second, other) in itertools.pairwise(numbered if len(numbered) == len(record.names) else ()):
        if number > other:
            raise RowError(
                f"expected images in the order of their numbers, got {first} before {second}",
                remedy="give the images as a list in the order of the prompt, or write their names into the markers, "
                f"<image:{first}>",
            )


def has_image_parts(record: Record) -> bool:
    """Return whether the messages contain images as content parts."""
    for message in record.messages:
        content = message["content"]
        if not isinstance(content, str) and isinstance(content, (list, tuple)):
            for part in content:
                if part.get("type") == "image":
                    return True
    return False


def _texts(record: Record) -> Iterator[tuple[int, str]]:
    """(number of the message, text) of every text that may contain markers."""
    yield from _strings(record)
    if record.images:
        yield from ((number, part["text"]) for number, part in _parts(record) if part["type"] == "text")


def _strings(record: Record) -> Iterator[tuple[int, str]]:
    for number, message in enumerate(record.messages):
        if isinstance(message["content"], str):
            yield number, message["content"]


def _parts(record: Record) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, message in enumerate(record.messages):
        if isinstance(message["content"], (list, tuple)):
            for part in message["content"]:
                yield number, part
