"""The segments of a JPEG file before its first scan (ITU-T T.81, annex B).

Read here and not by Pillow: Pillow parses EXIF to find a resolution, and warns or fails on what no pixel depends on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_SOI_LENGTH = 2
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END, _EXIF, _MULTI_PICTURE = 0xDA, 0xD9, 0xE1, 0xE2
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegHeader:
    """What stands before the scan; `exif` is the first EXIF block with its name, empty where there is none."""

    height: int
    width: int
    num_components: int
    exif: bytes
    metadata: tuple[tuple[int, int], ...]  # [start, stop) of EXIF, XMP and multi-picture segments


def read_jpeg_header(stream: BinaryIO) -> JpegHeader:
    """Walk the segments up to the scan, seeking over what is not needed. Raises EOFError or ValueError."""
    stream.seek(_SOI_LENGTH)
    position, exif, metadata = _SOI_LENGTH, b"", []
    frame: tuple[int, int, int] | None = None
    while True:
        marker, position = _next_marker(stream, position)
        if marker in (_START_OF_SCAN, _END):
            break
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack(">H", _exactly(stream, 2))
        if length < 2:
            raise ValueError(f"segment 0x{marker:02x} has the impossible length {length}")
        body_start, stop = position + 2, position + length
        if marker in _START_OF_FRAME and frame is None:
            _, height, width, components = struct.unpack(">BHHB", _exactly(stream, 6))
            frame = height, width, components
        elif marker in (_EXIF, _MULTI_PICTURE):
            body = _exactly(stream, stop - body_start)
            if marker == _EXIF or body.startswith(b"MPF\0"):
                metadata.append((position - 2, stop))
            if marker == _EXIF and body.startswith(b"Exif\0\0") and not exif:
                exif = body
        stream.seek(stop)
        position = stop
    if frame is None:
        raise ValueError("no frame header before the scan")
    height, width, components = frame
    return JpegHeader(height=height, width=width, num_components=components, exif=exif, metadata=tuple(metadata))


def without_metadata(data: bytes, header: JpegHeader) -> bytes:
    """The same picture without EXIF, XMP and the index of further pictures."""
    pieces, done = [], 0
    for start, stop in header.metadata:
        pieces.append(data[done:start])
        done = stop
    return b"".join((*pieces, data[done:])) if pieces else data


def _next_marker(stream: BinaryIO, position: int) -> tuple[int, int]:
    """(marker, position after it); fill bytes and stray bytes before it are passed over, as libjpeg does."""
    skipped = 0
    byte = _exactly(stream, 1)
    while True:
        position += 1
        if byte == b"\xff":
            while byte == b"\xff":
                byte = _exactly(stream, 1)
                position += 1
            if byte != b"\0":
                return byte[0], position
        skipped += 1
        if skipped > 65536:
            raise ValueError("no marker where one should stand")
        byte = _exactly(stream, 1)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the header is truncated")
    return data
