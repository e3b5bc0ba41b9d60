"""ms-swift: `messages` and `images` with `objects`; images without a marker come first.

`<ref-object>` and `<bbox>` in a message represent the entries of `objects`, in order. Boxes stay in
`extras["objects"]` in the coordinates of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats import sharegpt
from triptych_data.formats.objects import is_objects
from triptych_data.formats.record import Record
from triptych_data.formats.shape import read_row


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape: only `objects` distinguishes it from other rows of messages."""
    return sharegpt.matches(row) and is_objects(row.get("objects"))


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, in order."""
    return read_row(row, no_markers="first")
