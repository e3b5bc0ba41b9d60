"""Content parts of a message: texts, and images with their own limits, which are taken out in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from triptych_data.formats.columns import is_change, is_empty, listed_text, may_be_input
from triptych_data.formats.entry import ENTRY_KEYS, LIMITS, check_keys
from triptych_data.formats.media import FRAMES, media_file, media_kind
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.record import RowError, shown
from triptych_data.sniff import is_base64_image

_TEXT_TYPES = ("text", "input_text", "output_text")
_IMAGE_TYPES = ("image", "image_url", "input_image")
_SOURCES = ("image", "url", "path", "image_path", "img", "base64", "bytes", "image_url")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PART_KEYS = {"type", "text", "name", "annotation", "detail", "image_url", *ENTRY_KEYS}


def read_parts(content: Iterable[Any], *, what: str) -> tuple[list[dict[str, Any]], list[tuple[Any, str | None]]]:
    """Return (plain text and image parts, the images that were in them with their names, in order)."""
    parts: list[dict[str, Any]] = []
    images: list[tuple[Any, str | None]] = []
    for number, part in enumerate(content):
        place = f"{what}[{number}]"
        if isinstance(part, str):
            _refuse_file(part, place)
            parts.append({"type": "text", "text": part})
            continue
        if not isinstance(part, Mapping):
            raise RowError(f"expected {place} to be a text or image part, got {shown(part)}", remedy="correct the row")
        part = _said(part)
        if _kind(part, place) == "text":
            parts.append({"type": "text", "text": text_of_part(part, place)})
            continue
        image = _image(part, place)
        kept: dict[str, Any] = {key: part[key] for key in ("name", "annotation") if key in part}
        parts.append({"type": "image", **kept})
        if image is not None:
            images.append((image, kept.get("name")))
    return parts, images


def _refuse_file(text: str, place: str) -> None:
    """RowError for a bare text between parts that is a file: it may be an image, and would be read as its name."""
    if len(text.split(maxsplit=1)) == 1 and (media_file(text) is not None or is_image_file(text)):
        raise RowError(
            f"expected {place} to say whether it is a text or an image, got {shown(text)}",
            remedy='write {"type": "image", "image": ...} for an image, or {"type": "text", "text": ...} for the text',
        )


def refuse_written_parts(text: str, *, what: str) -> None:
    """Raise RowError if the text of a message writes content parts: their images would be text that nobody sees."""
    if "type" not in text:
        return
    found = listed_text(text)
    parts = [found] if isinstance(found, Mapping) else found
    if isinstance(parts, list) and any(
        isinstance(part, Mapping) and part.get("type") in (*_TEXT_TYPES, *_IMAGE_TYPES) for part in parts
    ):
        raise RowError(
            f"expected the content parts of {what} as a list, got a text that writes them, {shown(text)}",
            remedy="write them as a list without quotes around it, or, for the literal text, write the content as "
            'parts: [{"type": "text", "text": ...}]',
        )


def check_indices(turns: Iterable[Mapping[str, Any]], *, what: str) -> None:
    """Raise RowError if placeholders say by `index` that they show the images in another order than the column."""
    parts = [
        (f"{what}[{number}].content[{place}]", part)
        for number, turn in enumerate(turns)
        if isinstance(turn["content"], (list, tuple))
        for place, part in enumerate(turn["content"])
        if isinstance(part, Mapping) and type(part.get("index")) is int
    ]
    if any(not is_empty(part.get("text")) for _, part in parts):
        return  # it counts parts
    holders = [(place, part) for place, part in parts if all(is_empty(part.get(key)) for key in _SOURCES)]
    for position, (place, part) in enumerate(holders):
        if part["index"] != position:
            raise RowError(
                f"expected the images of the parts in the order of the column, got index {part['index']} in {place}, "
                f"which is image {position} in that order",
                remedy="give the images in the order of their parts, and remove index",
            )


def joined_text(content: object) -> str:
    """Return the text of a message's content, whether a string or parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content) if isinstance(content, list) else ""


def _kind(part: Mapping[str, Any], place: str) -> str:
    kind = part.get("type")
    if kind in _TEXT_TYPES or (kind is None and "text" in part):
        return "text"
    if kind in _IMAGE_TYPES or (kind is None and any(key in part for key in _SOURCES)):
        return "image"
    media = media_kind(str(kind)) or next((found for key in part if (found := media_kind(key))), None)
    if media is not None:
        raise RowError(f"expected text and images, got {media} in {place}", remedy=FRAMES[media])
    raise RowError(
        f"expected {place} to be a text or image part, got {shown(dict(part))}",
        remedy='use {"type": "text", "text": ...} or {"type": "image", "image": ...}',
    )


def text_of_part(part: Mapping[str, Any], place: str) -> str:
    """Return the text of a text part; raise RowError if the part has no text, or has something else that would be left
    out.
    """
    part = _said(part)
    text = part.get("text")
    if not isinstance(text, str):
        raise RowError(
            f"expected {place}.text to be text, got {shown(text)}",
            remedy='write the text as {"type": "text", "text": ...}, or remove the part',
        )
    for key, value in part.items():
        if key not in ("type", "text") and may_be_input(key, value):
            raise RowError(
                f"expected {place} to contain only text, got {key!r} as well",
                remedy="give it with the image, or remove it" if is_change(key) else "give each its own part",
            )
    return text


def _said(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part without its empty keys: Arrow gives every part every key, and these say nothing."""
    return {key: value for key, value in part.items() if (value is not None if key == "text" else not is_empty(value))}


def _image(part: Mapping[str, Any], place: str) -> Any:
    """The image of a part, with its limits where it has some; None for a placeholder of the image column's next."""
    if "text" in part:
        raise RowError(f"expected {place} to contain only an image, got text as well", remedy="give each its own part")
    inner = part.get("image_url")
    merged = {**part, **inner} if isinstance(inner, Mapping) else dict(part)
    check_keys(merged, allowed=_PART_KEYS, what=place)
    if merged.get("detail") == "low":
        raise RowError(
            f'expected no "detail": "low" in {place}, which no model here reads', remedy="give max_pixels instead"
        )
    sources = [merged[key] for key in _SOURCES if not isinstance(merged.get(key), Mapping) and key in merged]
    sources += [merged[key] for key in ("image", "image_url") if _is_file(merged.get(key))]
    _check_one_file(merged, place)
    limits = {key: merged[key] for key in LIMITS if key in merged}
    if not sources:
        if limits:
            raise RowError(
                f"expected {next(iter(limits))} of {place} next to its image, got it at a placeholder",
                remedy='give it with the image, as {"path": ..., "max_pixels": ...} in the column images',
            )
        return None
    if not limits:
        return sources[0]
    return {**sources[0], **limits} if isinstance(sources[0], Mapping) else {"image": sources[0], **limits}


def _check_one_file(part: Mapping[str, Any], place: str) -> None:
    """Refuse an image part that names two files; an address, or a path next to bytes, says where an image came from."""
    if any(part.get(key) for key in ("bytes", "base64")):
        return
    texts = {key: part[key] for key in _SOURCES if isinstance(part.get(key), str)}
    files = {key: text for key, text in texts.items() if is_image_file(text) and not is_base64_image(text)}
    named = {key: file for key, file in files.items() if not _ADDRESS.match(file)}
    first = next(iter(named), "")
    for key, value in named.items():
        if value != named[first]:
            raise RowError(
                f"expected {place} to be one image, got another as {key} than as {first}", remedy="remove one of them"
            )


def _is_file(value: object) -> bool:
    """Whether a value is a file as `datasets` gives it, {"bytes": ..., "path": ...}."""
    return isinstance(value, Mapping) and ("bytes" in value or "path" in value)
