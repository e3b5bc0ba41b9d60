"""The segments of a JPEG file before its first scan (ITU-T T.81, annex B).

Read here and not by Pillow: Pillow parses EXIF to find a resolution, and warns or fails on what no pixel depends on.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

_SOI_LENGTH = 2
_WINDOW = 4096  # at least; more is read where a segment needs it
_MAX_STRAY = 65536
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END, _EXIF, _MULTI_PICTURE = 0xDA, 0xD9, 0xE1, 0xE2
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_FRAME = struct.Struct(">BHHB")
_NO_MARKER = (0x00, 0xFF)  # a stuffed byte, a fill byte
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_PASSED_OVER = (
    frozenset(range(0xC0, 0xFF)) - _START_OF_FRAME - _STANDALONE - {_START_OF_SCAN, _END, _EXIF, _MULTI_PICTURE, 0xD8}
)
"""Markers of segments that say nothing about size or orientation: tables, comments, other applications' data."""


class JpegHeader(NamedTuple):
    """Contains the part of a file before the scan; `exif` and `xmp` are the first blocks with their names, or empty."""

    height: int
    width: int
    num_components: int
    exif: bytes
    xmp: bytes
    metadata: tuple[tuple[int, int], ...]  # [start, stop) of EXIF, XMP and multi-picture segments


def read_jpeg_header(stream: BinaryIO, *, start: bytes = b"") -> JpegHeader:
    """Walk the segments up to the scan, seeking over what is not needed. Raises EOFError or ValueError.

    `start` is what has been read of the stream's first bytes.
    """
    window = _Window(stream, start)
    position, exif, xmp, metadata = _SOI_LENGTH, b"", b"", []
    frame: tuple[int, int, int] | None = None
    while True:
        position = _behind_passed(start, position)
        head = window.upto(position, 4)
        if len(head) == 4 and head[0] == 0xFF and head[1] not in _NO_MARKER:
            marker, position = head[1], position + 2
        else:
            marker, position = _next_marker(window, position)
            head = b""
        if marker in (_START_OF_SCAN, _END):
            break
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(head[2:] or window.at(position, 2), "big")
        if length < 2:
            raise ValueError(f"segment 0x{marker:02x} has the impossible length {length}")
        stop = position + length
        if marker in _START_OF_FRAME and frame is None:
            precision, height, width, components = _FRAME.unpack(window.at(position + 2, 6))
            if precision != 8 or components not in (1, 3, 4):
                raise ValueError(f"expected 8 bits in 1, 3 or 4 components, got {precision} bits in {components}")
            frame = height, width, components
        elif marker in (_EXIF, _MULTI_PICTURE):
            body = window.at(position + 2, length - 2)
            if marker == _EXIF or body.startswith(b"MPF\0"):
                metadata.append((position - 2, stop))
            if marker == _EXIF and body.startswith(b"Exif\0\0") and not exif:
                exif = body
            elif marker == _EXIF and body.startswith(_XMP) and not xmp:
                xmp = body
        position = stop
    if frame is None:
        raise ValueError("no frame header before the scan")
    height, width, components = frame
    return JpegHeader(
        height=height, width=width, num_components=components, exif=exif, xmp=xmp, metadata=tuple(metadata)
    )


def plain_jpeg_size(start: bytes) -> tuple[int, int] | None:
    """Return (height, width) of a JPEG whose segments up to the scan are all in its first bytes, and none of them EXIF
    or XMP.

    None for every other JPEG, and for a damaged one: `read_jpeg_header` reads those.
    """
    position, found, last = _SOI_LENGTH, None, len(start) - 4
    while position <= last and start[position] == 0xFF:
        marker = start[position + 1]
        if marker == _START_OF_SCAN:
            return found
        length = start[position + 2] << 8 | start[position + 3]
        if marker in _START_OF_FRAME and found is None and position + 10 <= len(start):
            precision, height, width, components = _FRAME.unpack_from(start, position + 4)
            if precision != 8 or components not in (1, 3, 4):
                return None
            found = height, width
        elif marker not in _PASSED_OVER and marker != _MULTI_PICTURE:
            return None
        if length < 2:
            return None
        position += 2 + length
    return None


def without_metadata(data: bytes, header: JpegHeader) -> bytes:
    """Return the same picture without EXIF, XMP and the index of further pictures."""
    pieces, done = [], 0
    for start, stop in header.metadata:
        pieces.append(data[done:start])
        done = stop
    return b"".join((*pieces, data[done:])) if pieces else data


def _behind_passed(start: bytes, position: int) -> int:
    """The position after all segments from here on that are passed over and begin within the first bytes."""
    last = len(start) - 4
    while position <= last and start[position] == 0xFF and start[position + 1] in _PASSED_OVER:
        length = start[position + 2] << 8 | start[position + 3]
        if length < 2:  # the caller says what is wrong with it
            break
        position += 2 + length
    return position


class _Window:
    """A few kilobytes of a stream, moved along as positions are asked for."""

    def __init__(self, stream: BinaryIO, start: bytes) -> None:
        self._stream = stream
        self._start = 0
        self._bytes = start

    def at(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`; EOFError where the stream ends before."""
        found = self.upto(position, size)
        if len(found) < size:
            raise EOFError("the header is truncated")
        return found

    def upto(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position`: as many as the stream has there."""
        offset = position - self._start
        if offset < 0 or offset + size > len(self._bytes):
            self._stream.seek(position)
            self._bytes = self._stream.read(max(size, _WINDOW))
            self._start, offset = position, 0
        return self._bytes[offset : offset + size]


def _next_marker(window: _Window, position: int) -> tuple[int, int]:
    """(marker, position after it); fill bytes and stray bytes before it are passed over, as libjpeg does."""
    first = window.at(position, 2)
    if first[0] == 0xFF and first[1] not in _NO_MARKER:
        return first[1], position + 2
    for skipped in range(_MAX_STRAY):
        pair = window.at(position + skipped, 2)
        if pair[0] == 0xFF and pair[1] not in _NO_MARKER:
            return pair[1], position + skipped + 2
    raise ValueError("a marker is missing")
