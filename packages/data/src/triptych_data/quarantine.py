"""The list of refused rows, one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path

from triptych_data.errors import DataError


def write_quarantined(path: Path, error: DataError, *, listed: set[bytes] | None = None) -> None:
    """Append one refused row (source, id, kind, reason and remedy) if the list does not have it already, from another
    rank or an earlier start.

    ``listed`` are the lines of the file, for a process that writes alone and many rows; None reads them again.
    """
    entry = {
        "source": error.source,
        "id": error.id,
        "kind": error.kind,
        "reason": error.reason,
        "remedy": error.remedy,
    }
    line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    path.parent.mkdir(parents=True, exist_ok=True)
    if line in (quarantined(path) if listed is None else listed):
        return
    with path.open("ab") as stream:  # one short write per line: ranks may share the file
        stream.write(line)


def quarantined(path: Path) -> set[bytes]:
    """Return the lines of a list of refused rows; none where there is no file."""
    return set(path.read_bytes().splitlines(keepends=True)) if path.is_file() else set()


def allowed(max_bad: float, total: int) -> float:
    """Return how many rows may be refused: a value below 1 is a share of all rows, any other a number of rows."""
    return max_bad if max_bad >= 1 else max_bad * total


def too_many(last: DataError, count: int, *, total: int, limit: float) -> DataError:
    """Return the refusal of data with more unusable rows than allowed; `last` is the error of the last such row."""
    return DataError(
        f"expected at most {limit:g} refused rows of {total}, got {count}; the last: {last.reason}",
        source=last.source,
        id=last.id,
        remedy=f"{last.remedy}, or raise max_bad (--max_bad)",
        kind=last.kind,
    )
