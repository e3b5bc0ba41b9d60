"""A file whose state is known from its opening, so that nothing is asked of the system twice."""

from __future__ import annotations

import io
import os
from typing import Any


class RegularFile(io.RawIOBase):
    """The bytes of an open descriptor, which it closes; `status` is the file's state when it was opened.

    Python's own file object asks for the state and the position again: of a header of a few bytes, three questions in
    seven.
    """

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        super().__init__()
        self.status = status
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer from the position on; the number of bytes, 0 at the end."""
        if hasattr(os, "preadv"):
            count = os.preadv(self._descriptor, [buffer], self._position)
        else:
            os.lseek(self._descriptor, self._position, os.SEEK_SET)
            found = os.read(self._descriptor, len(buffer))
            count = len(found)
            buffer[:count] = found
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = max(0, offset + (os.fstat(self._descriptor).st_size if start is None else start))
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def close(self) -> None:
        """Close the descriptor, once."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
