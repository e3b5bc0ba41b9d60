"""Names of what is not an image and is not read: videos and sounds."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from triptych_data.addresses import is_data_address

FRAMES = {
    "video": "give its frames as images, each with its <image>",
    "audio": "write what is said as text, and remove it",
}
_NAME = re.compile(
    r"(?:input_)?(video|audio|speech|sound|wav)s?(?:_?(?:path|file|url|byte|list|clip|input|data|content)s?)*",
    re.IGNORECASE,
)
_SUFFIXES = {
    **dict.fromkeys(("mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg", "flv", "wmv", "3gp"), "video"),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg", "m4a", "opus", "aac"), "audio"),
}


@functools.lru_cache(maxsize=4096)  # the same columns in every row
def media_kind(name: str) -> str | None:
    """Return "video" or "audio" if the name of a column, a key or a part's type means one, or None for other names."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return "video" if found[1].lower() == "video" else "audio"


def media_file(path: object) -> str | None:
    """Return "video" or "audio" if a path, an address or the path of a file ends as one does, or None otherwise."""
    if not isinstance(path, str) and isinstance(path, Mapping):
        path = path.get("path")
    if not isinstance(path, str) or is_data_address(path):
        return None
    return _SUFFIXES.get(path.partition("?")[0].rpartition(".")[2].strip().lower())
