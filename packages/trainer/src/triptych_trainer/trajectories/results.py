"""The return value of a tool or an environment, as pieces of text and images and as a message."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.characters import whole_characters

__all__ = ["Piece", "UnreadablePictureError", "as_content", "first_pieces_of", "pieces_digest", "pieces_of"]

Piece = str | Image.Image
MOST_NUMBERS = 1000
"""An array of more numbers is written with gaps."""
PARTS = 'a list of parts: {"type": "text", "text": "..."} and {"type": "image", "image": a PIL image}'


class UnreadablePictureError(UsageError):
    """Says that the data of an image that a tool or an environment returned are damaged."""


def pieces_of(result: Any, *, owner: str) -> list[Piece]:
    """Return texts and images in order: of a list of content parts, of an image, or of anything else as text.

    Images are copied, so that later changes of the same object change nothing that the model already saw.

    Raises:
        UsageError: a part is neither text nor an image, or pixels or an object without words of its own would become
            text; names the tool.
        UnreadablePictureError: an image cannot be decoded.
    """
    if isinstance(result, (str, Image.Image)) or _is_part(result):
        return [_piece(result, owner=owner, number=1)]
    if _is_message(result):
        return [_piece(part, owner=owner, number=k + 1) for k, part in enumerate(result)]
    if hidden := _hidden_pixels(result):
        raise UsageError(
            f"{owner}: it returned {type(result).__name__} with {hidden} in it, which would become text for the model; "
            f"return a PIL image (`Image.fromarray(...)`), or {PARTS}"
        )
    return [whole_characters(str(result))]


def first_pieces_of(result: Any, *, owner: str) -> list[Piece]:
    """Return what ``reset`` of an environment shows: nothing, a text, an image, or a list of content parts.

    Raises:
        UsageError: it is something else; names the environment.
    """
    if result is None or (isinstance(result, (list, tuple)) and not result):
        return []
    if not _is_message(result):
        raise UsageError(
            f"{owner}: expected None, a text, a PIL image or a list of parts, got {type(result).__name__}; return "
            f"{PARTS}"
        )
    return pieces_of(result, owner=owner)


def pieces_digest(pieces: Sequence[Piece]) -> str:
    """Return a digest of texts and images; two digests are equal only if every character and pixel is equal."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        if isinstance(piece, str):
            digest.update(f"text {piece}\0".encode())
        else:
            digest.update(f"image {piece.mode} {piece.size}\0".encode() + piece.tobytes())
            if piece.mode in ("P", "PA"):
                digest.update(bytes(piece.getpalette("RGBA") or ()))
    return digest.hexdigest()


def as_content(pieces: Sequence[Piece]) -> str | list[dict[str, Any]]:
    """Return the pieces as the content of a message: a text, or a list of parts if there is an image."""
    if len(pieces) == 1 and isinstance(pieces[0], str):
        return pieces[0]
    return [
        {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image", "image": piece}
        for piece in pieces
    ]


def _is_message(result: Any) -> bool:
    """Whether a value is a text, an image, a part, or a list in which there is a part or an image."""
    if isinstance(result, (list, tuple)):
        return any(isinstance(part, Image.Image) or _is_part(part) for part in result)
    return isinstance(result, (str, Image.Image)) or _is_part(result)


def _is_part(part: Any) -> bool:
    """Whether a mapping is a part of a message, and not data with a `type` of its own."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and (kind in part or kind.startswith("image"))


def _hidden_pixels(result: Any, *, depth: int = 3) -> str | None:
    """What is somewhere in a value that is no message and says nothing as text: pixels, or an object without words."""
    if isinstance(result, Image.Image):
        return "a PIL image"
    if isinstance(result, (bytes, bytearray, memoryview)):
        return "bytes"
    shape = tuple(getattr(result, "shape", ())) if hasattr(result, "dtype") else ()
    if len(shape) > 2 or (len(shape) == 2 and shape[0] * shape[1] > MOST_NUMBERS):
        return f"an array of shape {shape}"
    kind: Any = type(result)
    is_plain = kind.__repr__ is object.__repr__ and kind.__str__ is object.__str__
    is_unfinished = inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.isawaitable(result)
    if is_plain or is_unfinished or inspect.isroutine(result):
        return f"an object of class {kind.__name__}"
    inner: Any = result.values() if isinstance(result, Mapping) else result
    if depth == 0 or not isinstance(result, (Mapping, list, tuple)):
        return None
    return next((found for one in inner if (found := _hidden_pixels(one, depth=depth - 1))), None)


def _piece(part: Any, *, owner: str, number: int) -> Piece:
    if isinstance(part, str):
        return whole_characters(part)
    if isinstance(part, Image.Image):
        return _copied(part, owner=owner, number=number)
    if not isinstance(part, Mapping) or "type" not in part:
        raise UsageError(
            f"{owner}: part {number} of what it returned is of class {type(part).__name__}, neither text nor an image; "
            f"return {PARTS}"
        )
    if part["type"] == "text" and isinstance(part.get("text"), str):
        return whole_characters(part["text"])
    if part["type"] == "image" and isinstance(part.get("image"), Image.Image):
        return _copied(part["image"], owner=owner, number=number)
    held = ", ".join(f"{type(value).__name__} under {key!r}" for key, value in part.items() if key != "type")
    raise UsageError(
        f"{owner}: part {number} of what it returned is of type {part['type']!r}, neither text nor an image (it has "
        f"{held or 'nothing else'}); return {PARTS}"
    )


def _copied(picture: Image.Image, *, owner: str, number: int) -> Image.Image:
    try:
        return picture.copy()
    except Exception as error:  # Pillow's readers fail on damaged data in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadablePictureError(f"{owner}: part {number} of what it returned cannot be read: {reason}") from error
