"""All tables of a run under one numbering, so that a row of a batch is one number and never a copy of its images."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import datasets
from triptych_data import Example

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.dataset_table import DatasetTable
from triptych_trainer.prompts.example_table import Table

__all__ = ["KEY", "RunTables"]

KEY = "row"
"""The one column that TRL's trainer sees: the key of a row."""


class RunTables:
    """Contains the rows of the training table and of every table for evaluation; no two rows of a run share a key.

    A key is the number of the row in its table plus the rows of all tables before it. The training table is the first,
    so that the keys of its rows are their numbers.
    """

    def __init__(
        self,
        *,
        on_fetch: Callable[[Example], None] = lambda example: None,
        needs_prompt: bool = True,
        whole_rows: bool = False,
    ) -> None:
        """``on_fetch`` is called with each row when its batch is fetched, one batch before it is used.

        Without ``needs_prompt`` an environment gives the tasks of rows that have no prompt. With ``whole_rows`` all
        columns of a ``datasets.Dataset`` are read as in a data file, not only its prompts and images.
        """
        self.whole_rows = whole_rows
        self.needs_prompt = needs_prompt
        self.on_fetch = on_fetch
        self._tables: list[tuple[int, Table]] = []
        self._known: dict[int, tuple[Any, datasets.Dataset]] = {}

    def __len__(self) -> int:
        return self._tables[-1][0] + len(self._tables[-1][1]) if self._tables else 0

    def keys_of(self, rows: Any, *, name: str) -> datasets.Dataset:
        """Return the keys of a table or of a ``datasets.Dataset`` as a dataset for TRL's trainer; a new table is added.

        Raises:
            UsageError: it is neither, or has no rows.
        """
        if id(rows) not in self._known:
            table = rows if hasattr(rows, "example") else self._table(rows, name)
            if not len(table):
                raise UsageError(f"{name} has no rows; pass a dataset that has, or leave it out")
            first = len(self)
            self._tables.append((first, table))
            keys = datasets.Dataset.from_dict({KEY: list(range(first, first + len(table)))})
            keys = keys.with_transform(_Fetch(self, first=first, size=len(table)))
            self._known[id(rows)] = (rows, keys)  # the rows are kept, so that no other object gets their id
            self._known[id(keys)] = (keys, keys)
        return self._known[id(rows)][1]

    def _table(self, rows: Any, name: str) -> DatasetTable:
        return DatasetTable(rows, name=name, needs_prompt=self.needs_prompt, whole_rows=self.whole_rows)

    def evaluation_keys(self, datasets: Any) -> Any:
        """Return the keys of a dataset for evaluation, or of each of several by name."""
        if datasets is None:
            return None
        if isinstance(datasets, Mapping):
            return {name: self.keys_of(rows, name=f"eval_dataset[{name!r}]") for name, rows in datasets.items()}
        return self.keys_of(datasets, name="eval_dataset")

    @contextmanager
    def passing(self, bad_rows: BadRows | None) -> Iterator[None]:
        """Forget at the end the tables that are added meanwhile, and which of their rows were bad.

        Scripts evaluate many datasets with one trainer. The same keys are given out again later, to other rows.
        """
        first, num_tables, known = len(self), len(self._tables), dict(self._known)
        try:
            yield
        finally:
            del self._tables[num_tables:]
            self._known = known
            if bad_rows is not None:
                bad_rows.forget(first=first)

    def example(self, key: int) -> Example:
        """Return the row of a key as it is trained on."""
        table, row = self._place(key)
        return table.example(row)

    def columns(self, key: int, read: Example | None = None) -> dict[str, Any]:
        """Return what rewards get of the row; where each access draws new values, those of ``read``."""
        table, row = self._place(key)
        return table.columns(row, read)

    def prompt(self, key: int, read: Example | None = None) -> str | list[dict[str, Any]]:
        """Return the prompt of the row as rewards get it; a text is tokenized without a template."""
        table, row = self._place(key)
        return table.prompt(row, read)

    def is_script(self, key: int) -> bool:
        """Return whether a row is of a ``datasets.Dataset``, which rewards know in the form that TRL gives it."""
        return isinstance(self._place(key)[0], DatasetTable)

    def announce(self, key: int) -> None:
        """Call ``on_fetch`` with a row, unless its values are drawn only when its prompt is prepared."""
        table, row = self._place(key)
        if not getattr(table, "is_drawn", False):
            self.on_fetch(table.example(row))

    def rows_beside(self, key: int) -> range:
        """Return the keys of all rows of the table that contains a row."""
        first, table = next((first, table) for first, table in reversed(self._tables) if first <= key)
        return range(first, first + len(table))

    def _place(self, key: int) -> tuple[Table, int]:
        first, table = next((first, table) for first, table in reversed(self._tables) if first <= key)
        return table, key - first


class _Fetch:
    """Hands out keys, and announces their rows."""

    def __init__(self, tables: RunTables, *, first: int, size: int) -> None:
        self.tables, self.first, self.size = tables, first, size

    def __call__(self, batch: Mapping[str, list[int]]) -> dict[str, list[Any]]:
        for key in dict.fromkeys(batch[KEY]):
            self.tables.announce(key)
        return {KEY: list(batch[KEY])}

    def __getstate__(self) -> dict[str, Any]:
        """Only the values that differ between tables, because ``datasets`` hashes the transform."""
        return {"first": self.first, "size": self.size}
