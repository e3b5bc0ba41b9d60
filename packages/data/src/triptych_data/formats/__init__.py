"""One module per format; `detect` names the one a row is written in."""

from triptych_data.formats.detect import FORMATS, detect
from triptych_data.formats.record import Record, RowError

__all__ = ["FORMATS", "Record", "RowError", "detect"]
