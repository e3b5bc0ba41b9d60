"""Row sources: numbered rows of a file or table, read on demand."""

from triptych_data.rows.base import Row, Rows
from triptych_data.rows.open import open_rows

__all__ = ["Row", "Rows", "open_rows"]
