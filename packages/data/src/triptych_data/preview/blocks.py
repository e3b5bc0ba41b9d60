"""JSON values in blocks, so that the page's script parses those that it shows and no others."""

from dataclasses import dataclass, field
from typing import Any

from triptych_data.pages import safe_json


@dataclass(slots=True, kw_only=True)
class Blocks:
    """Contains lists of values as JSON texts; a block ends before it would be longer than `max_chars`."""

    max_chars: int
    starts: list[int] = field(default_factory=list)
    """Number of the first value of each block."""
    num_values: int = 0
    _texts: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _open_chars: int = 0

    def add(self, value: Any) -> int:
        """Take in one more value and return its number."""
        text = safe_json(value)
        if self._open_chars + len(text) > self.max_chars:
            self.finish()
        self._open.append(text)
        self._open_chars += len(text)
        self.num_values += 1
        return self.num_values - 1

    def finish(self) -> list[str]:
        """Close the last block and return all of them."""
        if self._open:
            self.starts.append(self.num_values - len(self._open))
            self._texts.append(f"[{','.join(self._open)}]")
            self._open, self._open_chars = [], 0
        return self._texts
