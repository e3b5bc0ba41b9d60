"""What a check counts; tallies of parts add up to the tally of the whole."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych_data.errors import DataError

_SHOWN_PERCENTILES = (50, 95, 99)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts over rows. Memory: two integers per image and two per row that passes, and each refused row's error."""

    rows: int = 0
    passed: int = 0
    bytes: int = 0
    images_per_prompt: Counter[int] = field(default_factory=Counter)
    read_as: Counter[str] = field(default_factory=Counter)
    """The formats of the rows."""
    formats: Counter[str] = field(default_factory=Counter)
    """The formats of the images."""
    notes: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    """Columns that no format read, which rewards get under their own names."""
    long_sides: array[int] = field(default_factory=lambda: array("i"))
    kilopixels: array[int] = field(default_factory=lambda: array("i"))
    image_tokens: array[int] = field(default_factory=lambda: array("i"))
    prompt_tokens: array[int] = field(default_factory=lambda: array("i"))
    refused: list[DataError] = field(default_factory=list)
    digests: array[int] = field(default_factory=lambda: array("Q"))
    repeated: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in the tally of a later part."""
        self.rows += other.rows
        self.passed += other.passed
        self.bytes += other.bytes
        for mine, theirs in (
            (self.images_per_prompt, other.images_per_prompt),
            (self.read_as, other.read_as),
            (self.formats, other.formats),
            (self.notes, other.notes),
            (self.columns, other.columns),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        for numbers, further in (
            (self.long_sides, other.long_sides),
            (self.kilopixels, other.kilopixels),
            (self.image_tokens, other.image_tokens),
            (self.prompt_tokens, other.prompt_tokens),
        ):
            numbers.extend(further)
        self.refused.extend(other.refused)

    def as_json(self) -> dict[str, Any]:
        """Return the whole report as plain values."""
        return {
            "rows": self.rows,
            "passed": self.passed,
            "refused": len(self.refused),
            "refused_by_kind": dict(Counter(error.kind for error in self.refused).most_common()),
            "images": len(self.long_sides),
            "image_bytes": self.bytes,
            "images_per_prompt": {str(count): rows for count, rows in sorted(self.images_per_prompt.items())},
            "read_as": dict(self.read_as.most_common()),
            "formats": dict(self.formats.most_common()),
            "notes": dict(self.notes.most_common()),
            "columns_for_rewards": dict(self.columns.most_common()),
            "long_side_pixels": percentiles(self.long_sides),
            "kilopixels": percentiles(self.kilopixels),
            "image_tokens_per_prompt": percentiles(self.image_tokens),
            "tokens_per_prompt": percentiles(self.prompt_tokens),
            "repeated_rows": [{"source": source, "first": first} for source, first in self.repeated],
            "refused_rows": [
                {
                    "source": error.source,
                    "id": error.id,
                    "kind": error.kind,
                    "reason": error.reason,
                    "remedy": error.remedy,
                }
                for error in self.refused
            ],
        }


def percentiles(values: Sequence[int]) -> dict[str, int] | None:
    """Return p50, p95, p99 (nearest rank) and the maximum, or None if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    ranks = {f"p{share}": ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in _SHOWN_PERCENTILES}
    return {**ranks, "max": ordered[-1]}
