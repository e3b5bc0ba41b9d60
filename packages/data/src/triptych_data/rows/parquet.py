"""Parquet files that grow without measure when they are read: found by what their row groups state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triptych_data.errors import DataError

_ALWAYS_ALLOWED_BYTES = 64 << 20
_LARGEST_RATIO = 256
_LARGEST_COUNTED_BYTES = 64 << 20


def check_expansion(path: Path) -> None:
    """Raise DataError if a file would take more than 64 MiB and 256 times its size as a table.

    The size is what the row groups state; columns written with a dictionary state the dictionary once, so those are
    counted where they could exceed the limit, up to 64 MiB of a column's stated size.
    """
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    size = path.stat().st_size
    limit = max(_ALWAYS_ALLOWED_BYTES, _LARGEST_RATIO * size)
    with parquet.ParquetFile(path) as file:
        total = 0
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            for index in range(group.num_columns):
                total += _column_bytes(file, number, group.column(index), limit=limit - total)
                if total > limit:
                    raise DataError(
                        f"expected at most {limit:,} bytes of rows in a parquet file of {size:,} bytes, got more",
                        source=str(path),
                        remedy="check where it comes from, and write its rows as JSONL if they are meant",
                        kind="too_large",
                    )


def _column_bytes(file: Any, group: int, column: Any, *, limit: int) -> int:
    """The bytes of one column of a row group as a table; counting ends above `limit`."""
    stated = int(column.total_uncompressed_size)
    may_be = stated * column.num_values if column.has_dictionary_page else stated
    if may_be <= limit or stated > min(limit, _LARGEST_COUNTED_BYTES):
        return stated
    counted = 0
    rows = max(1, _ALWAYS_ALLOWED_BYTES // max(stated, 1))
    for batch in file.iter_batches(min(rows, 65_536), row_groups=[group], columns=[column.path_in_schema]):
        counted += batch.nbytes
        if counted > limit:
            break
    return max(stated, counted)
