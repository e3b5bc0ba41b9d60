"""The list of refused rows, one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path

from triptych_data.errors import DataError


def write_quarantined(path: Path, error: DataError) -> None:
    """Append one refused row: source, id, kind, reason and remedy."""
    entry = {
        "source": error.source,
        "id": error.id,
        "kind": error.kind,
        "reason": error.reason,
        "remedy": error.remedy,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(
        "a", encoding="utf-8", errors="backslashreplace"
    ) as stream:  # one short write per line: ranks may share the file
        stream.write(json.dumps(entry, ensure_ascii=False) + "\n")


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
