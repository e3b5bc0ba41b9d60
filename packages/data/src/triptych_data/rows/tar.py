"""Tar shards: each sample is a JSON member and the images next to it, found once and read where they lie."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
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
_NOTES = re.compile(r"(readme|licen[cs]e|notice)\.txt", re.IGNORECASE)
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
        except _LayoutError as error:
            raise DataError(
                f"{error.member} {error.problem}", source=str(path), remedy=error.remedy, kind="format"
            ) from error
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                f"not a readable tar file ({error})", source=str(path), remedy="copy or pack it again", kind="truncated"
            ) from error

    def __len__(self) -> int:
        return len(self._samples)

    def row(self, index: int, /) -> SourceRow:
        """Return sample `index`, counted from 0."""
        description, others = self._samples[index]
        texts = [member for member in others if member.name.lower().endswith(_TEXTS)]
        images = [member for member in others if member not in texts]
        source = self.source(index)
        with self.path.open("rb") as stream:
            values = parse_row(_read(stream, description), source=source)
            for member in texts:
                name, text = _text_column(stream, member, source=source)
                if values.setdefault(name, text) != text:
                    raise DataError(
                        f"expected one column {name}, got one in {description.name} and another as {member.name}",
                        source=source,
                        remedy="remove one of them",
                    )
        names = {image.name: image for image in images}
        names |= {posixpath.normpath(image.name): image for image in images}
        names |= {posixpath.basename(image.name): image for image in images}
        return SourceRow(
            values=_with_images(values, images, source=source),
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


def _text_column(stream: BinaryIO, member: ArchiveMember, *, source: str) -> tuple[str, str]:
    """(name, text) of the column that a text member is."""
    try:
        return posixpath.basename(member.name).partition(".")[2], _read(stream, member).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 in {member.name}, got byte 0x{error.object[error.start]:02x} at {error.start}",
            source=source,
            remedy="convert the member to UTF-8",
        ) from error


def _with_images(values: Mapping[str, Any], images: list[ArchiveMember], *, source: str) -> Mapping[str, Any]:
    if not images or names_images(values):
        return values
    _check_numbers(images, source=source)
    column = "image" if "conversations" in values else "images"
    return {**values, column: [image.name for image in images]}


def _check_numbers(images: list[ArchiveMember], *, source: str) -> None:
    """DataError for numbered images in another order, as 10 before 2 where names were sorted as texts."""
    for first, second in itertools.pairwise(images):
        (words, numbers), (others, further) = _numbered(first.name), _numbered(second.name)
        if words == others and numbers > further:
            raise DataError(
                f"expected images in the order of their numbers, got {first.name} before {second.name}",
                source=source,
                remedy='name the images in the .json member, "images": [...], in the order of the prompt',
            )


def _numbered(name: str) -> tuple[list[str], list[int]]:
    """(what is between the numbers, the numbers) of a member's name without its ending."""
    stem = posixpath.splitext(posixpath.basename(name).partition(".")[2])[0]
    return re.split(r"[0-9]+", stem), [int(number) for number in re.findall(r"[0-9]+", stem)]


class _LayoutError(tarfile.ReadError):
    """Says which member does not belong into a shard of samples, and what to do."""

    def __init__(self, member: str, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.member, self.problem, self.remedy = member, problem, remedy


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
            if entry.isdir():
                continue
            _check_kind(entry)
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


def _check_kind(entry: tarfile.TarInfo) -> None:
    """_LayoutError for a member that is no plain file: it would be left out, or read from the wrong place."""
    if entry.islnk() or entry.issym():
        raise _LayoutError(
            entry.name,
            f"is a link to {entry.linkname}, which is not followed",
            remedy="pack the files themselves (tar --dereference --hard-dereference)",
        )
    if not entry.isreg() or entry.issparse():
        raise _LayoutError(entry.name, "is no plain file", remedy="pack it as one, without --sparse, or leave it out")
    if posixpath.basename(entry.name).startswith("."):
        raise _LayoutError(
            entry.name,
            "begins with a dot, so that it belongs to no sample",
            remedy="leave it out; for `._` files of macOS set COPYFILE_DISABLE=1 when you pack",
        )


def _sample(group: list[ArchiveMember]) -> Iterator[tuple[ArchiveMember, list[ArchiveMember]]]:
    described = [member for member in group if member.name.lower().endswith(".json")]
    if len(described) > 1:
        raise _LayoutError(
            described[1].name,
            f"is a second .json member of the sample of {described[0].name}",
            remedy="give every sample a name of its own, and one .json member",
        )
    if described:
        yield described[0], [member for member in group if member != described[0]]
    elif group and not (len(group) == 1 and _NOTES.fullmatch(posixpath.basename(group[0].name))):
        raise _LayoutError(
            group[0].name,
            "has no .json member of the same name next to it",
            remedy='pack every sample as name.json ({"prompt": ..., "answer": ...}) and, right behind it, its images '
            "name.0.png, name.1.png",
        )
