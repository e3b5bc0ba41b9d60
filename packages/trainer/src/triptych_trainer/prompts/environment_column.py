"""The column by which a row chooses one of several environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data import DataError, Example

__all__ = ["COLUMN", "check_environment", "chosen_environment"]

COLUMN = "environment"


def chosen_environment(row: Mapping[str, Any], names: Sequence[str], *, where: str, id: str | None = None) -> str:
    """Return the name of the environment that a row chooses among ``names``.

    Raises:
        DataError: it chooses none of them.
    """
    name = row.get(COLUMN)
    if name not in names:
        got = f"got {name!r}" if COLUMN in row else "the row has no such column"
        raise DataError(
            f"expected one of {', '.join(names)} in the column {COLUMN}, {got}",
            source=where,
            id=id,
            remedy="name the environment of the row there, or give one environment for all rows",
            kind="environment",
        )
    return str(name)


def check_environment(example: Example, names: Sequence[str]) -> None:
    """Check that a row of a file chooses one of several environments; without ``names`` there is nothing to choose.

    Raises:
        DataError: it chooses none of them.
    """
    if names:
        id = None if example.id == example.source else example.id
        chosen_environment(example.columns or example.extras, names, where=example.source, id=id)
