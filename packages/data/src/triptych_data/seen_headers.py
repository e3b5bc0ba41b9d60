"""What a run saw of its images when it began: their sizes, and which state of each file they were read from."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime
from typing import BinaryIO, cast

from PIL import Image

from triptych_data.addresses import is_address
from triptych_data.budget import Size
from triptych_data.errors import DataError, ImageError
from triptych_data.example import ArchiveMember, Example, ImageSource
from triptych_data.fetch import Stamp, open_image, open_path, stamp_of
from triptych_data.header import parse_header, probe_image
from triptych_data.header_table import EMPTY, HeaderTable, Seen
from triptych_data.image_files import ImageFiles
from triptych_data.plain_size import PLAIN_BYTES, plain_size
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.regular_file import RegularFile, read_at
from triptych_data.used_images import UsedImages

_NUM_LOCKS = 64
_SETTLED_FROM = 32768
"""Images as objects, which take ten times the memory and are visited by each search for garbage."""


class SeenHeaders:
    """Remembers sizes of images, each header read once, with the stamp of its file; in the end an image takes 32 bytes.

    A file that is replaced later has another stamp, and `check` refuses it: what is trained on would not be what was
    counted and checked. Threads may share it.
    """

    def __init__(
        self,
        *,
        policy: ImagePolicy = DEFAULT_POLICY,
        base: SeenHeaders | None = None,
        remembered: HeaderTable = EMPTY,
        files: ImageFiles | None = None,
    ) -> None:
        """What `base` has seen counts as seen; where each image lies is noted in `files`.

        So does what an earlier start has `remembered`, for images whose files are compared or whose keys name their
        content: another image may lie at the same address, or in the same place of an archive, by now.
        """
        self.policy = policy
        self.has_remote = False
        """Whether an image came from another machine, where nobody can see whether it is replaced."""
        self.used = UsedImages()
        """The images that were decoded so far."""
        self._files = files
        self._base = base
        self._remembered = remembered
        self._table = EMPTY
        self._recent: dict[int, Seen] = {}
        self._settling = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_NUM_LOCKS)]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.policy, self.table)

    def __len__(self) -> int:
        return len(self._table) + len(self._recent)

    @property
    def table(self) -> HeaderTable:
        """All that was seen, as arrays."""
        with self._settling:
            recent = dict(self._recent)
            if recent:  # a thread that looks for an image meanwhile finds it in one of the two
                self._table = self._table.joined(HeaderTable.of(recent))
                for key in recent:
                    self._recent.pop(key, None)
            return self._table

    def add(self, table: HeaderTable) -> None:
        """Take over what was seen before, or by another process."""
        self._table = self.table.joined(table)

    def size(self, source: ImageSource) -> Size:
        """Return the (height, width) of an image as decoded, from its header, or as it was seen before. Raises
        ImageError.
        """
        key, table = key_of(source), self._table
        seen = self._recent.get(key) or table.find(key)
        if seen is None:
            with self._locks[key % _NUM_LOCKS]:  # two threads with one image read its header once
                seen = self._recent.get(key) or (None if self._table is table else self._table.find(key))
                if seen is None:
                    seen = self._recent[key] = self._look(source, key)
            if len(self._recent) >= _SETTLED_FROM:
                _ = self.table
        return seen[0]

    def check(self, source: ImageSource) -> Stamp | None:
        """Compare the state of a file with the remembered one, and return it, or None for an image that is in no file.

        Raises ImageError if the file was replaced or removed.
        """
        known = self._find(key_of(source))
        seen = None if known is None else known[1]
        if seen is None:  # never seen, or not a file
            return None
        with open_image(source, policy=self.policy) as stream:
            stamp = stamp_of(stream)
        if stamp is not None and stamp != seen:
            raise ImageError(
                "the file was replaced after the run had looked at it "
                f"(expected {_in_words(seen)}, got {_in_words(stamp)})",
                image=str(source),
                kind="changed",
                remedy="start the run again, which looks at every image again, or leave such rows out with "
                'on_bad="skip" (--on_bad skip)',
            )
        return seen

    def forget(self, source: ImageSource) -> None:
        """Read the header of an image again at its next use."""
        key = key_of(source)
        self._recent.pop(key, None)
        self._table = self._table.without(key)

    def _find(self, key: int) -> Seen | None:
        return self._recent.get(key) or self._table.find(key)

    def _look(self, source: ImageSource, key: int) -> Seen:
        known = None if self._base is None else self._base._find(key)
        is_elsewhere = isinstance(source.ref, str) and is_address(source.ref)
        if known is None and not isinstance(source.ref, ArchiveMember) and not is_elsewhere:
            known = self._remembered.find(key)
        size, stamp = known or self._read(source)
        if isinstance(source.ref, str) and self._files is not None:
            if is_elsewhere:
                self.has_remote = True
            elif stamp is not None:
                self._files.add(key, _joined(source))
        return size, stamp

    def _read(self, source: ImageSource) -> Seen:
        if isinstance(source.ref, Image.Image):
            return probe_image(source, policy=self.policy), None
        opened = open_path(source, policy=self.policy)
        if opened is None:
            with open_image(source, policy=self.policy) as stream:
                header = parse_header(stream, image=str(source), policy=self.policy)
                return header[:2], stamp_of(stream)
        descriptor, status = opened
        try:
            size = plain_size(read_at(descriptor, PLAIN_BYTES, 0), self.policy)
            if size is None:
                file = cast(BinaryIO, RegularFile(descriptor, status))
                size = parse_header(file, image=str(source), policy=self.policy)[:2]
        finally:
            os.close(descriptor)
        return size, Stamp(status.st_size, status.st_mtime_ns)


def header_sizes(
    example: Example, *, policy: ImagePolicy = DEFAULT_POLICY, seen: SeenHeaders | None = None
) -> tuple[Size, ...]:
    """Return the (height, width) of each image of an example, from its header; DataError names the first image that
    cannot be used.

    With `seen` a header that was read before is not read again.
    """
    sizes = []
    for number, image in enumerate(example.images, start=1):
        try:
            sizes.append(probe_image(image, policy=policy) if seen is None else seen.size(image))
        except ImageError as error:
            raise image_in_example(error, example, image, number) from error
    return tuple(sizes)


def image_in_example(error: ImageError, example: Example, image: ImageSource, number: int) -> DataError:
    """Return an image's error together with the row that the image belongs to."""
    name = f" ({image.name})" if image.name else ""
    return DataError(
        f"image {number} of {len(example.images)}{name}, {error.image}: {error.reason}",
        source=example.source,
        id=None if example.id == example.source else example.id,
        remedy=error.remedy,
        kind=error.kind,
    )


def _joined(source: ImageSource) -> str:
    """The path of a file, as `os.path.join` writes it, which takes longer."""
    assert isinstance(source.ref, str)
    return source.ref if source.root is None or source.ref.startswith("/") else f"{source.root}/{source.ref}"


def _rebuilt(policy: ImagePolicy, table: HeaderTable) -> SeenHeaders:
    seen = SeenHeaders(policy=policy)
    seen.add(table)
    return seen


def key_of(source: ImageSource) -> int:
    """Return the number of an image's place: 64 bits of a digest, equal for equal places."""
    text = repr(source.key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _in_words(stamp: Stamp) -> str:
    moment = datetime.fromtimestamp(stamp.changed_ns / 1e9, tz=UTC)
    return f"{stamp.num_bytes:,} bytes of {moment:%Y-%m-%d %H:%M:%S.%f} UTC"
