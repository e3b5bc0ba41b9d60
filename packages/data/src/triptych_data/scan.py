"""Looking at every row of a source, in parallel parts, and keeping the counts in order."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from triptych_data.errors import DataError
from triptych_data.example import Example
from triptych_data.inspect_row import Inspection, inspect_row
from triptych_data.rows import Rows
from triptych_data.tally import Tally

_PART_ROWS, _PART_DECODED = 500, 20


def scan_rows(
    rows: Rows,
    *,
    inspection: Inspection,
    workers: int = 1,
    progress: Callable[[int], object] = lambda done: None,
) -> tuple[Tally, Sequence[int]]:
    """Look at every row and return (counts, indexes of the rows that pass).

    `progress` is told how many rows each finished part had, and 0 once the workers have started.
    """
    tally, passed = Tally(), array("q")
    first_seen: dict[int, int] = {}
    for part, indexes, looked_at in _parts(rows, inspection, workers):
        tally.add(part)
        passed.extend(indexes)
        for index, digest in zip(indexes, part.digests, strict=True):
            known = first_seen.setdefault(digest, index)
            if known != index:
                tally.repeated.append((rows.source(index), rows.source(known)))
        progress(looked_at)
    return tally, passed


def _parts(rows: Rows, inspection: Inspection, workers: int) -> Iterator[tuple[Tally, array[int], int]]:
    size = _PART_DECODED if inspection.decode else _PART_ROWS
    ranges = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    if workers < 2 or len(ranges) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield Tally(), array("q"), 0
        for part in ranges:
            yield _scan_part(part, rows, inspection)
        return
    # Forked workers share the index of offsets and the loaded processor; only counts come back.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        min(workers, len(ranges)), mp_context=context, initializer=_prepare_worker, initargs=(rows, inspection)
    ) as pool:
        try:
            results = pool.map(_scan_in_worker, ranges)  # forks now, before the caller draws its progress in a thread
            yield Tally(), array("q"), 0
            yield from results
        except BrokenProcessPool as error:
            raise OSError("a worker died, probably for lack of memory; run again with --workers 1") from error


_work: dict[str, Any] = {}


def _prepare_worker(rows: Rows, inspection: Inspection) -> None:
    _work.update(rows=rows, inspection=inspection)


def _scan_in_worker(part: range) -> tuple[Tally, array[int], int]:
    return _scan_part(part, _work["rows"], _work["inspection"])


def _scan_part(part: range, rows: Rows, inspection: Inspection) -> tuple[Tally, array[int], int]:
    tally, passed = Tally(), array("q")
    for index in part:
        tally.rows += 1
        try:
            row = rows.row(index)
            example = inspect_row(row, tally, inspection=inspection)
        except DataError as error:
            tally.refused.append(error)
            continue
        tally.passed += 1
        tally.digests.append(row_digest(example, with_columns=inspection.has_environment))
        passed.append(index)
    return tally, passed, len(part)


def row_digest(example: Example, *, with_columns: bool = False) -> int:
    """Return 64 bits of what the model would see and be rewarded for; they are equal for repeated rows.

    An environment begins from the other columns of a row, so that they count ``with_columns``.
    """
    content: list[object] = [example.prompt.shown(), [str(image.key) for image in example.images], example.answer]
    if with_columns:
        content.append(sorted((name, str(value)) for name, value in example.extras.items()))
    text = json.dumps(content, ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
