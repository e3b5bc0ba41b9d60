"""Tar shards: each sample is a JSON member and the images next to it, found once and read where they lie."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from triptych_data.errors import DataError
from triptych_data.example import ArchiveMember
from triptych_data.formats.pictures import names_images
from triptych_data.rows.base import SourceRow
from triptych_data.rows.fingerprint import file_fingerprint
from triptych_data.rows.jsonl import parse_row

_TEXTS = (".txt", ".cls")
_LONGEST_PADDING = 1 << 20


class TarRows:
    """Contains the samples of a shard in WebDataset's layout: `key.json` with `key.jpg`, `key.0.png` and so on.

    A row whose JSON names no image gets the sample's images in the order they are packed; members that are text
    (`key.txt`, `key.cls`) are columns of that name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = str(path)
        self.files = (path,)
        try:
            self._samples = list(_index(path))
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                f"not a readable tar file ({error})", source=str(path), remedy="copy or pack it again", kind="truncated"
            ) from error

    def __len__(self) -> int:
        return len(self._samples)

    def row(self, index: int, /) -> SourceRow:
        """Return sample `index`, counted from 0."""
        description, others = self._samples[index]
        texts = [member for member in others if member.name.endswith(_TEXTS)]
        images = [member for member in others if member not in texts]
        source = self.source(index)
        with self.path.open("rb") as stream:
            values = parse_row(_read(stream, description), source=source)
            for member in texts:
                name = posixpath.basename(member.name).partition(".")[2]
                values.setdefault(name, _read(stream, member).decode("utf-8", "replace"))
        names = {image.name: image for image in images}
        names |= {posixpath.basename(image.name): image for image in images}
        return SourceRow(
            values=_with_images(values, images),
            file=self.file,
            source=source,
            index=index,
            folder=self.path.parent,
            members=names,
        )

    def source(self, index: int, /) -> str:
        """Return the place of sample `index` as "shard:number", counted from 1."""
        return f"{self.file}:{index + 1}"

    def fingerprint(self) -> str:
        """Return a digest of the shard."""
        return file_fingerprint(self.path)


def _read(stream: BinaryIO, member: ArchiveMember) -> bytes:
    stream.seek(member.offset)
    return stream.read(member.size)


def _with_images(values: Mapping[str, Any], images: list[ArchiveMember]) -> Mapping[str, Any]:
    if not images or names_images(values):
        return values
    column = "image" if "conversations" in values else "images"
    return {**values, column: [image.name for image in images]}


class _Entry(tarfile.TarInfo):
    """A header that is an error where it is damaged: `tarfile` takes such headers for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            entry = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a header or the end was expected") from error
        if entry.size < 0:  # a negative size would lead the search back, for ever
            raise tarfile.ReadError(f"{entry.name} has a size of {entry.size} bytes")
        return entry


def _index(path: Path) -> Iterator[tuple[ArchiveMember, list[ArchiveMember]]]:
    """(JSON member, other members) of each sample: neighbours whose names are equal up to the first dot."""
    size, last = os.path.getsize(path), -1
    current: str | None = None
    group: list[ArchiveMember] = []
    with tarfile.open(path, "r:", tarinfo=_Entry) as archive:
        for entry in archive:
            if entry.size < 0 or entry.offset <= last:  # a size may also be in an extended header
                raise tarfile.ReadError(f"{entry.name} has a size of {entry.size} bytes")
            last = entry.offset
            if not entry.isreg():
                continue
            if entry.offset_data + entry.size > size:
                raise tarfile.ReadError(f"{entry.name} goes beyond the end of the file")
            folder, name = posixpath.split(entry.name)
            key = posixpath.join(folder, name.partition(".")[0])
            if key != current:
                yield from _sample(group)
                current, group = key, []
            group.append(ArchiveMember(archive=path, name=entry.name, offset=entry.offset_data, size=entry.size))
        _check_end(path, archive.offset)  # type: ignore[attr-defined]
    yield from _sample(group)


def _check_end(path: Path, offset: int) -> None:
    """ReadError where something comes after the archive's end, as in shards that were joined with `cat`."""
    with path.open("rb") as stream:
        stream.seek(offset)
        if stream.read(_LONGEST_PADDING).strip(b"\0"):
            raise tarfile.ReadError("there is more after its end, as if several files were joined")


def _sample(group: list[ArchiveMember]) -> Iterator[tuple[ArchiveMember, list[ArchiveMember]]]:
    described = [member for member in group if member.name.endswith(".json")]
    if not described and not all(member.name.endswith(_TEXTS) for member in group):
        raise tarfile.ReadError(f"{group[0].name} has no .json member of the same name")
    if described:
        yield described[0], [member for member in group if member != described[0]]
