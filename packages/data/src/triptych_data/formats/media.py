"""Names of what is not an image and is not read: videos and sounds."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

FRAMES = {
    "video": "give its frames as images, each with its <image>",
    "audio": "write what is said as text, and remove it",
}
_NAME = re.compile(
    r"(?:input_)?(video|audio|speech|sound|wav)s?(?:_?(?:path|file|url|byte|list|clip|input|data|content)s?)*",
    re.IGNORECASE,
)
_SUFFIXES = {
    "video": (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".opus", ".aac"),
}


def media_kind(name: str) -> str | None:
    """ "video" or "audio" where a column, key or part type is named as one; None for all other names."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return "video" if found[1].lower() == "video" else "audio"


def media_file(path: object) -> str | None:
    """ "video" or "audio" where a path or address ends as such a file does."""
    if not isinstance(path, str) or path.startswith("data:"):
        return None
    suffix = PurePosixPath(path.partition("?")[0].strip().lower()).suffix
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
