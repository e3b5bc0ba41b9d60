"""A summary of the rows: counts, distributions and problems by kind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych_data.preview.collecting import REFUSED, problems_of
from triptych_data.preview.row import PreviewRow
from triptych_data.tally import percentiles


@dataclass(slots=True, kw_only=True)
class Summary:
    """Contains counts over rows; an image counts once per row that contains it."""

    rows: int = 0
    refused: int = 0
    images: int = 0
    images_per_prompt: Counter[int] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    image_tokens: list[int] = field(default_factory=list)
    long_sides: list[int] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, row: PreviewRow) -> None:
        """Count one row."""
        self.rows += 1
        self.refused += row.refused is not None
        self.problems.update(problems_of(row))
        if row.example is None:
            return
        self.images += len(row.images)
        self.images_per_prompt[len(row.images)] += 1
        self.long_sides += [max(image.size) for image in row.images if image.size]
        if row.tokens is not None:
            self.image_tokens.append(row.tokens[0])
            self.tokens.append(row.tokens[1])

    def ordered_problems(self) -> list[tuple[str, int]]:
        """Return problems and their numbers of rows: kinds of refusal first, then the most frequent."""
        return sorted(self.problems.items(), key=lambda item: (not item[0].startswith(REFUSED), -item[1], item[0]))

    def facts(self, *, total: int, pictures_left_out: int) -> list[tuple[str, str]]:
        """Return the numbers for the top of the page, in words."""
        found = [
            ("rows", f"{self.rows:,}" if self.rows == total else f"{self.rows:,} of {total:,}"),
            ("would be refused", f"{self.refused:,}"),
            ("images", f"{self.images:,}"),
        ]
        if self.tokens:
            found.append(("tokens", f"{sum(self.tokens):,}"))
            found.append(("of them image tokens", f"{sum(self.image_tokens) / max(sum(self.tokens), 1):.0%}"))
        if pictures_left_out:
            found.append(("pictures not embedded", f"{pictures_left_out:,}"))
        return found


def spread(values: Sequence[int]) -> str:
    """Return the distribution of some numbers, at least one, as a line of text."""
    found = percentiles(values) or {}
    return (
        f"median {found['p50']:,}, 95 % at most {found['p95']:,}, 99 % at most {found['p99']:,}, most {found['max']:,}"
    )
