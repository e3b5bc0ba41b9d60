"""The return value of a tool or an environment, as pieces of text and images and as a message."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from triptych_trainer.errors import UsageError

__all__ = ["Piece", "as_content", "digest_of", "pieces_of"]

Piece = str | Image.Image


def pieces_of(result: Any, *, owner: str) -> list[Piece]:
    """Texts and images in order: of a list of content parts, of an image, or of anything else as text.

    Raises:
        UsageError: a part is neither text nor an image; names the tool.
    """
    if isinstance(result, Image.Image):
        return [result]
    if not _is_parts(result):
        return [str(result)]
    return [_piece(part, owner=owner, number=k + 1) for k, part in enumerate(result)]


def digest_of(pieces: Sequence[Piece]) -> str:
    """A digest of texts and images; two digests are equal only if every character and pixel is equal."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        if isinstance(piece, str):
            digest.update(f"text {piece}\0".encode())
        else:
            digest.update(f"image {piece.mode} {piece.size}\0".encode() + piece.tobytes())
    return digest.hexdigest()


def as_content(pieces: Sequence[Piece]) -> str | list[dict[str, Any]]:
    """The pieces as the content of a message: a text, or a list of parts if there is an image."""
    if len(pieces) == 1 and isinstance(pieces[0], str):
        return pieces[0]
    return [
        {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image", "image": piece}
        for piece in pieces
    ]


def _is_parts(result: Any) -> bool:
    return (
        isinstance(result, (list, tuple))
        and bool(result)
        and all(isinstance(part, Image.Image) or (isinstance(part, Mapping) and "type" in part) for part in result)
    )


def _piece(part: Any, *, owner: str, number: int) -> Piece:
    if isinstance(part, Image.Image):
        return part
    if part["type"] == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if part["type"] == "image" and isinstance(part.get("image"), Image.Image):
        image: Image.Image = part["image"]
        return image
    raise UsageError(
        f"{owner}: part {number} of what it returned is of type {part['type']!r}, neither text nor an image; return "
        '{"type": "text", "text": "..."} and {"type": "image", "image": a PIL image}'
    )
