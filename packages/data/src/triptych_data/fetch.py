"""From an image source to its encoded bytes: files, addresses, data URIs, base64, archives."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from PIL import Image

from triptych_data.addresses import is_address, is_data_address, is_local, local_path
from triptych_data.errors import ImageError
from triptych_data.example import ArchiveMember, ImageSource
from triptych_data.inline import inline_bytes
from triptych_data.paths import open_beneath, open_with_status
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.regular_file import RegularFile
from triptych_data.sniff import is_base64_image


class Stamp(NamedTuple):
    """Says which state of a file was read: its length, and when it was last written."""

    num_bytes: int
    changed_ns: int
    """Nanoseconds since 1970 (st_mtime_ns)."""


def open_image(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> BinaryIO:
    """Open the encoded image as a seekable stream; only what is read from it is loaded. The caller closes it."""
    ref = source.ref
    if isinstance(ref, bytes):
        return io.BytesIO(_within(ref, str(source), policy))
    if isinstance(ref, ArchiveMember):
        return _Member(*_read_member(ref, policy))
    if isinstance(ref, Image.Image):
        raise TypeError("a PIL image has no encoded bytes; read it with load_image")
    encoded = inline_bytes(ref)
    if encoded is not None:
        return io.BytesIO(_within(encoded, str(source), policy))
    if is_address(ref):
        return _open_address(source, ref, policy)
    return _open_path(source, ref, policy)


def open_path(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> tuple[int, os.stat_result] | None:
    """Return (open descriptor, state of the file) of an image that is named by a path, or None for an image that is
    elsewhere.
    """
    ref = source.ref
    if not isinstance(ref, str) or is_data_address(ref) or is_base64_image(ref) or is_address(ref):
        return None
    root = source.root if source.root is not None else Path()
    return open_with_status(root, ref, allow_outside=policy.allow_outside, max_bytes=policy.max_file_bytes)


def _open_path(source: ImageSource, path: str, policy: ImagePolicy) -> BinaryIO:
    root = source.root if source.root is not None else Path()
    descriptor, status = open_with_status(
        root, path, allow_outside=policy.allow_outside, max_bytes=policy.max_file_bytes
    )
    return cast(BinaryIO, RegularFile(descriptor, status))


class _Member(io.BytesIO):
    """The bytes of a member of an archive; `status` is the archive's state when it was opened."""

    def __init__(self, data: bytes, status: os.stat_result) -> None:
        super().__init__(data)
        self.status = status


def stamp_of(stream: BinaryIO) -> Stamp | None:
    """Return the state, when it was opened, of the file or archive that a stream reads, or None if there is none."""
    if not isinstance(stream, (RegularFile, _Member)):
        return None
    return Stamp(stream.status.st_size, stream.status.st_mtime_ns)


def read_image(source: ImageSource, *, policy: ImagePolicy = DEFAULT_POLICY) -> bytes:
    """Return the encoded bytes of an image, at most `policy.max_file_bytes` of them."""
    if isinstance(source.ref, bytes):
        return _within(source.ref, str(source), policy)
    with open_image(source, policy=policy) as stream:
        try:
            data = stream.read(policy.max_file_bytes + 1)
        except OSError as error:
            remedy = "check the disk or network and try again"
            raise ImageError(f"cannot be read ({error})", image=str(source), kind="io", remedy=remedy) from error
    return _within(data, str(source), policy)  # a file may have grown since its size was looked up


def _within(data: bytes, image: str, policy: ImagePolicy) -> bytes:
    if len(data) > policy.max_file_bytes:
        raise ImageError(
            f"expected at most {policy.max_file_bytes} bytes, got {len(data)}",
            image=image,
            kind="too_large",
            remedy="raise max_file_bytes or shrink the file",
        )
    return data


def _read_member(member: ArchiveMember, policy: ImagePolicy) -> tuple[bytes, os.stat_result]:
    descriptor = open_beneath(member.archive.parent, member.archive.name)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        stream.seek(member.offset)
        if member.size > policy.max_file_bytes:
            _within(b"\0" * (policy.max_file_bytes + 1), member.name, policy)
        data = stream.read(member.size)
    if len(data) < member.size:
        raise ImageError(
            f"expected {member.size} bytes in the archive, got {len(data)}",
            image=f"{member.archive.name}/{member.name}",
            kind="truncated",
            remedy="copy the archive again",
        )
    return data, status


def _open_address(source: ImageSource, address: str, policy: ImagePolicy) -> BinaryIO:
    path = local_path(address) if policy.allow_remote or is_local(address) else None
    if path is not None:
        return _open_path(source, path, policy)
    if not policy.allow_remote:
        raise ImageError(
            "this is an address, not a path, and addresses are not read",
            image=str(source),
            kind="remote",
            remedy="download the image, or allow it with allow_remote=True (--allow_remote)",
        )
    from triptych_data.remote import read_remote

    return io.BytesIO(read_remote(address, policy=policy))
