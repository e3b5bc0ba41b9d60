"""OpenAI messages: images stand in the content as `{"type": "image_url", "image_url": {"url": ...}}` parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.formats.record import Record, as_answer, listed, require_turns, split_answer, without


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape: messages with an image inside some content."""
    messages = row.get("messages")
    return isinstance(messages, (list, tuple)) and any(
        isinstance(part, Mapping) and _inline_image(part) is not None
        for message in messages
        if isinstance(message, Mapping) and isinstance(message.get("content"), (list, tuple))
        for part in message["content"]
    )


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; the images are taken out of the content in order."""
    messages, answer = split_answer(require_turns(row.get("messages"), what="messages"))
    messages, images = extract_images(messages)
    column_images, names = listed(row.get("images"))
    reference = next((row[name] for name in ("answer", "solution") if row.get(name) is not None), answer)
    return Record(
        messages=messages,
        images=images or column_images,
        names=[None] * len(images) if images else names,
        answer=as_answer(reference),
        extras=without(row, "messages", "images", "id"),
    )


def extract_images(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Any]]:
    """(messages with bare `{"type": "image"}` parts, the images that stood in them, in order)."""
    images: list[Any] = []
    plain: list[Mapping[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, (list, tuple)):
            plain.append(message)
            continue
        parts = []
        for part in content:
            image = _inline_image(part) if isinstance(part, Mapping) else None
            if image is not None:
                images.append(image)
                parts.append({"type": "image"})
            else:
                # Arrow gives every part every key; the empty ones say nothing.
                parts.append({key: value for key, value in part.items() if value is not None})
        plain.append({**message, "content": parts})
    return plain, images


def _inline_image(part: Mapping[str, Any]) -> Any | None:
    kind = part.get("type")
    if kind in ("image_url", "input_image"):
        address = part.get("image_url")
        return address.get("url") if isinstance(address, Mapping) else address
    if kind == "image":
        return next((part[name] for name in ("image", "url", "path", "base64") if part.get(name) is not None), None)
    return None
