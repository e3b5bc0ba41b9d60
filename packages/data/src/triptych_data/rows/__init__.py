"""Sources of rows: the numbered rows of a file or table, read on demand."""

from triptych_data.rows.base import Rows, SourceRow
from triptych_data.rows.open import open_rows

__all__ = ["Rows", "SourceRow", "open_rows"]
