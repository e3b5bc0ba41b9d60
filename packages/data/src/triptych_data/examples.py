"""The usable rows of a table as a sequence of examples; a row is read when it is needed."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import overload

from triptych_data.checked import Checked
from triptych_data.errors import DataError
from triptych_data.example import Example
from triptych_data.rows import Rows, SourceRow


class Examples(Sequence[Example]):
    """Contains the good rows of a source, as a list; `checked` says what a look at all of them has shown, `read` reads
    a row.

    No example stays in memory: a row takes the 16 bytes by which its source finds it.
    """

    def __init__(
        self, rows: Rows, read: Callable[[SourceRow], Example], checked: Checked, *, kept: Sequence[int] | None = None
    ) -> None:
        self.rows = rows
        self.checked = checked
        self.read = read
        self._kept = checked.kept if kept is None else kept

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self.rows, self.read, self.checked, kept=self._kept[index])
        return self.read(self.rows.row(self._kept[index]))

    def __iter__(self) -> Iterator[Example]:
        return (self.read(self.rows.row(row)) for row in self._kept)

    def only(self, places: Sequence[int]) -> Examples:
        """Return the examples at these places, in this order."""
        return Examples(self.rows, self.read, self.checked, kept=array("q", (self._kept[place] for place in places)))

    @property
    def row_numbers(self) -> Sequence[int]:
        """The number of each example's row in its table."""
        return self._kept

    @property
    def bad(self) -> tuple[DataError, ...]:
        """Why each row that is left out cannot be used."""
        return self.checked.bad

    @property
    def fingerprint(self) -> str:
        """A digest of the rows, of how they are read and of which are kept: equal for equal data in any folder.

        It was taken when the rows were read: of a file's size and bytes, of a table's own rows.
        """
        digest = hashlib.blake2b(self.checked.digest.encode(), digest_size=16)
        digest.update(array("q", self._kept).tobytes())
        return digest.hexdigest()
