"""Rows that turn out to be unusable while a run is under way: left out, listed, and replaced by other rows."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from triptych_data import DataError
from triptych_data.quarantine import allowed, too_many, write_quarantined

__all__ = ["BadRows", "prepared_with"]

Prepared = TypeVar("Prepared")


class BadRows:
    """Does what ``--on_bad skip`` asks for, when the image of a row cannot be decoded, or was replaced, after the run
    began.

    Every rank counts its own rows, and all of them write to one file. Errors of disk or network are never a reason to
    skip: they stop the run.
    """

    def __init__(
        self,
        *,
        max_bad: float,
        num_rows: int,
        seed: int = 0,
        quarantine: Path | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        """Allow ``max_bad`` of ``num_rows`` rows (a share below 1, a number from 1 on); list them in ``quarantine``."""
        self.limit = allowed(max_bad, num_rows)
        self.num_rows = num_rows
        self.seed = seed
        self.quarantine = quarantine
        self.say = say
        self.known: dict[int, DataError] = {}
        """The rows that were refused so far, by key."""

    def refuse(self, key: int, error: DataError) -> None:
        """Note a row that cannot be used.

        Raises:
            DataError: it may not be skipped, or there are too many.
        """
        if error.kind == "io":
            raise error
        if key in self.known:
            return
        self.known[key] = error
        if self.quarantine is not None:
            write_quarantined(self.quarantine, error)
        self.say(f"left out: {error}")
        if len(self.known) > self.limit:
            raise too_many(error, len(self.known), total=self.num_rows, limit=self.limit) from error

    def forget(self, *, first: int) -> None:
        """Forget the rows whose keys are ``first`` and above, because these keys will belong to other rows."""
        self.known = {key: error for key, error in self.known.items() if key < first}

    def to_state(self) -> list[list[Any]]:
        """Return the refused rows with their reasons, as plain values: a checkpoint keeps them, and draws stay the
        same.
        """
        return [[key, e.reason, e.source, e.id, e.remedy, e.kind] for key, e in self.known.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Take back what ``to_state`` gave; these rows are listed already."""
        for key, reason, source, id, remedy, kind in state:
            self.known[key] = DataError(reason, source=source, id=id, remedy=remedy, kind=kind)

    def replacement(self, key: int, *, rows: range, taken: Mapping[int, object], step: int) -> int:
        """Return another row of the same table, drawn by seed, step and key alone, so that a resumed run draws the
        same.

        Raises:
            DataError: there is no other row left.
        """
        free = [row for row in rows if row not in self.known and row not in taken]
        free = free or [row for row in rows if row not in self.known]
        if not free:
            raise self.known[key]
        digest = hashlib.blake2b(f"{self.seed} {step} {key}".encode(), digest_size=8).digest()
        return free[int.from_bytes(digest, "little") % len(free)]


def prepared_with(
    bad: BadRows | None,
    sizes: Mapping[int, int],
    *,
    prepare: Callable[[int], Prepared],
    rows_beside: Callable[[int], range],
    step: int,
) -> tuple[dict[int, Prepared], dict[int, int]]:
    """Prepare the rows of a batch; returns the prompts, and how many completions each gets, both by key.

    Where bad rows may be skipped, another row of its table takes a bad row's place.

    Raises:
        DataError: a row cannot be used and may not be skipped.
    """
    if bad is None:
        return {key: prepare(key) for key in sizes}, dict(sizes)
    prompts: dict[int, Prepared] = {}
    counts: dict[int, int] = {}
    for key, count in sizes.items():
        row = key
        while row not in prompts:
            if row not in bad.known:
                try:
                    prompts[row] = prepare(row)
                    break
                except DataError as error:
                    bad.refuse(row, error)
            row = bad.replacement(row, rows=rows_beside(key), taken={**sizes, **prompts}, step=step)
        counts[row] = counts.get(row, 0) + count
    return prompts, counts
