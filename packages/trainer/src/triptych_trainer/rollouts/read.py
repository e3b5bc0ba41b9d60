"""Read the rollouts of a run: small columns of all groups first, whole groups only for those that are shown."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from triptych_trainer.rollouts.parts import ReportError, rollout_parts
from triptych_trainer.rollouts.record import COUNTS, SCALARS, GroupRecord, from_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Contains the numbers of one group: a sample at a step. `part` and `row` say where the rest of it is."""

    step: int
    mode: str
    key: str
    """The key of the prompt's row; no other row has the same key."""
    sample_id: str
    num_tokens: Sequence[int]
    rewards: Mapping[str, Sequence[float | None]]
    totals: Sequence[float | None]
    advantages: Sequence[float | None]
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The numbers that `COUNTS` names, one for each rollout; empty for runs without tools."""
    part: Path
    row: int

    @property
    def mean(self) -> float | None:
        """The mean total reward; None when nothing was scored."""
        return mean(self.totals)

    @property
    def spread(self) -> float:
        """Largest minus smallest total; 0 is a group from which nothing is learned."""
        return spread_of(self.totals)

    @property
    def is_flat(self) -> bool:
        """Whether no completion was better than another, so that the advantages are all zero."""
        return is_flat(self.totals)


def read_visits(run_dir: str | Path) -> list[Visit]:
    """Return the numbers of every group in order of step; raises ReportError when there are none."""
    parts = rollout_parts(Path(run_dir))
    visits = [visit for part in parts for visit in _visits_of(part)]
    if not visits:
        raise ReportError(
            f"{run_dir}: the {len(parts)} files of rollouts in {parts[0].parent} contain no group; name the output "
            "folder of a run that sampled at least one"
        )
    return sorted(visits, key=lambda visit: visit.step)


def read_groups(visits: Iterable[Visit]) -> list[GroupRecord]:
    """Return the whole groups of some visits, in their order, opening each part once."""
    wanted = list(visits)
    rows: dict[Path, list[int]] = defaultdict(list)
    for visit in wanted:
        rows[visit.part].append(visit.row)
    found = {part: iter(_read(part, None).take(numbers).to_pylist()) for part, numbers in rows.items()}
    return [from_row(next(found[visit.part])) for visit in wanted]


def spread_of(totals: Iterable[float | None]) -> float:
    """Return the largest minus the smallest of the totals that are not None."""
    scored = [total for total in totals if total is not None]
    return max(scored) - min(scored) if scored else 0.0


def is_flat(totals: Iterable[float | None]) -> bool:
    """Return whether no completion was better than another, so that GRPO learns nothing from them."""
    return spread_of(totals) < 1e-9


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _visits_of(part: Path) -> list[Visit]:
    return [
        Visit(
            step=row["step"],
            mode=row["mode"],
            key=row["key"],
            sample_id=row["sample_id"],
            num_tokens=row["num_tokens"],
            rewards={reward["name"]: reward["scores"] for reward in row["rewards"]},
            totals=row["totals"],
            advantages=row["advantages"],
            counts={name: row.get(name) or () for name in COUNTS},  # parts of older runs lack them
            part=part,
            row=k,
        )
        for k, row in enumerate(_read(part, list(SCALARS)).to_pylist())
    ]


def _read(part: Path, columns: list[str] | None) -> Any:
    try:
        with pq.ParquetFile(part) as file:
            return file.read(columns=columns)
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{part}: cannot be read ({type(error).__name__}: {error}); it is no rollout part, or damaged: move it away"
        ) from error
