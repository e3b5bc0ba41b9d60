"""The errors of this package; each reads as one line that says where, what and how to repair it."""

from __future__ import annotations

from triptych_parser import Refusal
from triptych_parser.printable import printable

_LONGEST = 300
ALL_IMAGES = "the images of this prompt"
"""What an `ImageError` names that no single image caused."""


def _name(text: str) -> str:
    """A name from a file as a message shows it, printable and not endless."""
    text = printable(text, kept="")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


class UsageError(Refusal, ValueError):
    """Says that a command line or configuration cannot be run, and what to change."""


class DataError(Refusal, ValueError):
    """Says that a record cannot be used: `source` is "file:line", `id` the sample's id, `remedy` what to do."""

    def __init__(self, reason: str, *, source: str, id: str | None = None, remedy: str, kind: str = "record") -> None:
        reason, remedy = printable(reason, kept=""), printable(remedy, kept="")
        where = _name(source) if id is None else f"{_name(source)} (id {_name(id)})"
        super().__init__(f"{where}: {reason}; {remedy}")
        self.reason = reason
        self.source = source
        self.id = id
        self.remedy = remedy
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_data_error, (self.reason, self.source, self.id, self.remedy, self.kind)


class ImageError(Refusal, ValueError):
    """Says that an image cannot be used: `image` names it, `kind` is the class of fault, `remedy` what to do.

    Kinds: missing, escape, remote, not_a_file, too_large, format, animated, truncated, corrupt, depth, shape, memory,
    changed, io (only this one can pass by itself and is tried again).
    """

    def __init__(self, reason: str, *, image: str, kind: str, remedy: str) -> None:
        reason, remedy, image = printable(reason, kept=""), printable(remedy, kept=""), _name(image)
        super().__init__(f"{image if image == ALL_IMAGES else f'image {image}'}: {reason}; {remedy}")
        self.reason = reason
        self.image = image
        self.kind = kind
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_image_error, (self.reason, self.image, self.kind, self.remedy)


def _rebuild_data_error(reason: str, source: str, id: str | None, remedy: str, kind: str) -> DataError:
    return DataError(reason, source=source, id=id, remedy=remedy, kind=kind)


def _rebuild_image_error(reason: str, image: str, kind: str, remedy: str) -> ImageError:
    return ImageError(reason, image=image, kind=kind, remedy=remedy)
