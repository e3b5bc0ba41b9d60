"""What a parquet file states about itself: how much it grows when it is read, and columns that no row can have."""

from __future__ import annotations

from collections.abc import Sequence
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


def check_columns(schema: Any, *, source: str) -> None:
    """Raise DataError for two columns of one name, and for a column of a type that `datasets` does not know."""
    import pyarrow.types as types  # type: ignore[import-untyped]

    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"column {twice!r} appears twice", source=source, remedy="rename or remove one of them", kind="format"
        )
    for field in schema:
        if types.is_map(field.type) or types.is_union(field.type) or types.is_interval(field.type):
            raise DataError(
                f"expected columns of texts, numbers, lists and structs, got {field.name} of type {field.type}",
                source=source,
                remedy="write the column as a struct or as JSON text, or leave it out",
                kind="format",
            )


def have_same_columns(paths: Sequence[Path]) -> bool:
    """Return whether files can be read as one table: with the same columns, types and features of `datasets`."""
    import pyarrow as arrow  # type: ignore[import-untyped]
    import pyarrow.parquet as parquet

    try:
        first, *others = (parquet.read_schema(path) for path in paths)
    except (arrow.ArrowException, OSError):  # whoever reads them says which one is damaged
        return False
    return all(first.equals(schema, check_metadata=True) for schema in others)


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
