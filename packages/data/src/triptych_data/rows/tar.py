"""Tar shards: each sample is a JSON member and the images beside it, found once and read where they lie."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.example import ArchiveMember
from triptych_data.rows.base import Row, file_fingerprint
from triptych_data.rows.jsonl import parse_row

_IMAGE_COLUMNS = ("image", "images")


class TarRows:
    """The samples of a shard in WebDataset's layout: `key.json` with `key.jpg`, `key.0.png` and so on.

    A row whose JSON names no image gets the sample's images in the order they are packed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = str(path)
        try:
            self._samples = list(_index(path))
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                f"not a readable tar file ({error})", source=str(path), remedy="copy or pack it again", kind="truncated"
            ) from error

    def __len__(self) -> int:
        return len(self._samples)

    def row(self, index: int, /) -> Row:
        """Sample `index` from 0."""
        description, images = self._samples[index]
        with self.path.open("rb") as stream:
            stream.seek(description.offset)
            text = stream.read(description.size)
        source = self.source(index)
        values = parse_row(text, source=source)
        names = {image.name: image for image in images}
        names |= {posixpath.basename(image.name): image for image in images}
        return Row(
            values=_with_images(values, images),
            file=self.file,
            source=source,
            index=index,
            folder=self.path.parent,
            members=names,
        )

    def source(self, index: int, /) -> str:
        """The place of sample `index` as "shard:number", counted from 1."""
        return f"{self.file}:{index + 1}"

    def fingerprint(self) -> str:
        """A digest of the shard."""
        return file_fingerprint(self.path)


def _with_images(values: Mapping[str, Any], images: list[ArchiveMember]) -> Mapping[str, Any]:
    if not images or any(values.get(column) is not None for column in _IMAGE_COLUMNS):
        return values
    column = "image" if "conversations" in values else "images"
    return {**values, column: [image.name for image in images]}


def _index(path: Path) -> Iterator[tuple[ArchiveMember, list[ArchiveMember]]]:
    """(JSON member, other members) of each sample: neighbours named alike up to the first dot."""
    size = os.path.getsize(path)
    current: str | None = None
    group: list[ArchiveMember] = []
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
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
    yield from _sample(group)


def _sample(group: list[ArchiveMember]) -> Iterator[tuple[ArchiveMember, list[ArchiveMember]]]:
    described = [member for member in group if member.name.endswith(".json")]
    if described:
        yield described[0], [member for member in group if not member.name.endswith((".json", ".txt", ".cls"))]
