"""A file whose state is known from its opening, so that nothing is asked of the system twice."""

from __future__ import annotations

import os
from types import TracebackType

_WINDOW_BYTES = 4096


class RegularFile:
    """Contains the bytes of an open descriptor, which it closes; `status` is the file's state when it was opened.

    It does what a binary stream is asked for here: read, seek, tell, close. Python's own file object asks for the state
    and the position again, and takes several times as long to make and to close as the header of an image to read.
    """

    __slots__ = ("_descriptor", "_position", "_window", "_window_start", "closed", "status")

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.status = status
        self.closed = False
        self._descriptor = descriptor
        self._position = self._window_start = 0
        self._window = b""

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, size: int = -1, /) -> bytes:
        """Read the next `size` bytes, or fewer at the end of the file, or all that are left if `size` is negative."""
        start = self._position
        if 0 <= size <= _WINDOW_BYTES:
            offset = start - self._window_start
            if offset < 0 or offset + size > len(self._window):
                self._window, self._window_start, offset = self._bytes_from(start, _WINDOW_BYTES), start, 0
            found = self._window[offset : offset + size]
        else:
            found = self._bytes_from(start, size)
        self._position = start + len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (os.fstat(self._descriptor).st_size if start is None else start))
        return self._position

    def tell(self) -> int:
        """Return the position in the file."""
        return self._position

    def close(self) -> None:
        """Close the descriptor, once."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the number of the descriptor."""
        return self._descriptor

    def _bytes_from(self, start: int, size: int) -> bytes:
        """At most `size` bytes, fewer only where the file ends; all of them where `size` is negative."""
        asked = max(0, self.status.st_size - start) + 1  # the byte beyond the end shows a file that has grown
        found = read_at(self._descriptor, asked if size < 0 else min(size, asked), start)
        if len(found) == size or (len(found) < asked and start + len(found) >= self.status.st_size):
            return found
        pieces, done = [found], len(found)
        while pieces[-1] and done != size:
            pieces.append(read_at(self._descriptor, asked if size < 0 else size - done, start + done))
            done += len(pieces[-1])
        return b"".join(pieces)


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Read at most `size` bytes of an open file from `start`."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, size)
