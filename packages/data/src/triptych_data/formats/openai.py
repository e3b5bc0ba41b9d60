"""OpenAI messages, MM-Eureka: images are `image_url` or `image` parts; a marker in the text is plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import CONVERSATIONS, listed_text
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape: messages with an image part inside some content."""
    return not row.keys().isdisjoint(CONVERSATIONS) and any(
        _has_image(listed_text(row.get(name))) for name in CONVERSATIONS
    )


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; the images are taken out of the content in order."""
    return read_row(row, no_markers="error")


def _has_image(messages: object) -> bool:
    return isinstance(messages, (list, tuple)) and any(
        isinstance(part, Mapping) and str(part.get("type")) in ("image", "image_url", "input_image")
        for message in messages
        if isinstance(message, Mapping) and isinstance(message.get("content"), (list, tuple))
        for part in message["content"]
    )
