"""One training prompt and its images, as all other modules see them."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from triptych_data.addresses import is_data_address
from triptych_data.orientation import ORIENTATION_NOTES

if TYPE_CHECKING:
    from triptych_parser import BoundPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveMember:
    """Names the bytes `offset..offset+size` of a tar file, which were found once by its index."""

    archive: Path
    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSource:
    """Says where an image comes from: a path below `root`, an address, bytes, a PIL image or a member of a tar file."""

    ref: str | bytes | Image.Image | ArchiveMember
    root: Path | None = None
    name: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    resized: tuple[int, int] | None = None
    """(height, width) that the row asks for, whatever the file's own: limits then count from there."""
    key: Hashable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _identity(self.ref, self.root))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageSource) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def __str__(self) -> str:
        if isinstance(self.ref, str):
            return self.ref if len(self.ref) <= 200 else f"{self.ref[:80]}... ({len(self.ref)} characters)"
        if isinstance(self.ref, bytes):
            return f"<{len(self.ref)} bytes>"
        if isinstance(self.ref, ArchiveMember):
            return f"{self.ref.archive.name}/{self.ref.name}"
        return f"<PIL {self.ref.mode} {self.ref.width}x{self.ref.height}>"

    @property
    def has_limits(self) -> bool:
        """Whether the row says how large this image is to be."""
        return bool(self.min_pixels or self.max_pixels or self.resized)

    def _compared(self) -> tuple[Hashable, ...]:
        return (self.key, self.name, self.min_pixels, self.max_pixels, self.resized)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Contains a prompt bound to its images, its reference answer and the columns of its row.

    `images` contains each image once, in record order; the prompt's markers index into it. `id` and `source` are for
    people: an id may occur twice, and `source` names the row's place ("file.jsonl:3", "file.json[2]"). Everything that
    is kept per example (prepared prompts, features, pairs of evaluations, histories) is kept under `key`. `columns` is
    the row as it was read, every column under its own name with its own value; `extras` are those of them that the
    format did not read as part of the prompt.
    """

    id: str
    prompt: BoundPrompt
    images: tuple[ImageSource, ...]
    answer: str | None
    extras: Mapping[str, Any]
    source: str
    row: int = 0
    """Number of the row, from 0, in the table of all sources that were read together."""
    table: str = ""
    """A digest of that table and of how it was read; empty for an example that was not read from one."""
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """What the chat template lists as tools before this prompt: no row has any, a run with tools adds them."""
    reply: str | None = field(default=None, repr=False)
    """What the assistant says after the prompt, where the row has one text for it: what `sft` trains on."""

    @property
    def key(self) -> str:
        """What distinguishes this example from all others: equal for the same row of the same data in every process."""
        return f"{self.table}:{self.row}" if self.table else f"{self.source}\n{self.id}\n{self.row}"


def _identity(ref: object, root: Path | None) -> Hashable:
    """Equal exactly when the same pixels will be read: by place for files, by content for what is in memory."""
    if isinstance(ref, str):
        if is_data_address(ref):
            return ("data", hashlib.blake2b(ref.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        return ("path", None if root is None else str(root), ref)
    if isinstance(ref, bytes):
        return ("bytes", hashlib.blake2b(ref, digest_size=16).digest())
    if isinstance(ref, Image.Image):
        pixels = hashlib.blake2b(ref.tobytes(), digest_size=16).digest()
        return ("pil", ref.mode, ref.size, pixels, *_how_to_read(ref))
    return ref  # an ArchiveMember compares by value


def _how_to_read(picture: Image.Image) -> tuple[Hashable, ...]:
    """What else decides the colours and the direction of a picture: its palette, transparency and orientation."""
    palette = picture.getpalette("RGBA") if picture.mode in ("P", "PA") else None
    return tuple(
        (name, hashlib.blake2b(repr(value).encode(), digest_size=16).digest())
        for name, value in (
            ("palette", palette),
            *((name, picture.info.get(name)) for name in ("transparency", *ORIENTATION_NOTES)),
        )
        if value is not None
    )
