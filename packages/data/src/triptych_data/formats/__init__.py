"""One module per format; `detect` names the one a row is written in."""

from triptych_data.formats.detect import FORMATS, check_format, detect, refuse_no_prompt
from triptych_data.formats.record import Record, RowError

__all__ = ["FORMATS", "Record", "RowError", "check_format", "detect", "refuse_no_prompt"]
