"""Where in its line an error of JSON is."""

from __future__ import annotations

import json


def column_of(error: json.JSONDecodeError) -> int:
    """Return the column of an error in its line, counted from 1; where the line is too short, the one behind its end.

    Python counts what is behind the line, a line break or blank lines, as further lines.
    """
    line = error.doc.rstrip()
    position = min(error.pos, len(line))
    return position - line.rfind("\n", 0, position)
