"""Check the markers of a JSONL file against its images, record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from triptych_parser.bind import bind
from triptych_parser.errors import MarkerError
from triptych_parser.parse import parse

__all__ = ["check_file", "check_record"]

NoMarkers = Literal["auto", "error", "first"]
_PROMPTS = ("messages", "conversations", "prompt", "problem", "question", "query")
_IMAGES = ("images", "image")
_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}


def check_file(path: Path, *, dialect: str = "image", no_markers: NoMarkers = "auto") -> Iterator[MarkerError | None]:
    """Yield the error, or None, for every record of a JSONL file; blank lines are no records.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.jsonl"
    ...     _ = path.write_text('{"prompt": "<image>?", "images": []}')
    ...     [error.problem for error in check_file(path) if error]
    ['column 1, <image>: marker 1 has no image']
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                yield MarkerError(
                    f"not a JSON record: {error}",
                    source=str(path),
                    line=number,
                    remedy="write one JSON object on each line",
                )
                continue
            try:
                check_record(record, source=str(path), line=number, dialect=dialect, no_markers=no_markers)
            except MarkerError as error:
                yield error
            else:
                yield None


def check_record(
    record: Any,
    *,
    source: str | None = None,
    line: int | None = None,
    dialect: str = "image",
    no_markers: NoMarkers = "auto",
) -> None:
    """Raise MarkerError when a record's markers and images do not fit.

    The prompt is the first of messages, conversations, prompt, problem, question and query; the images are in images
    or image. With `no_markers="auto"`, a record of `conversations` and no marker at all has its images first, as
    VLM-R1 files do.

    >>> check_record({"prompt": "Compare <image> with <image>", "images": ["a.png", "b.png"]})
    """
    prompt = _find(record, _PROMPTS)
    if prompt is None:
        raise MarkerError(
            "no prompt in the record", source=source, line=line, remedy=f"name it one of {', '.join(_PROMPTS)}"
        )
    field, value = prompt
    messages = value if isinstance(value, str) else [_message(item) for item in _list(value, source, line)]
    has_parts = not isinstance(messages, str) and any(_image_parts(message) for message in messages)
    parsed = parse(messages, dialect="parts" if has_parts else dialect, source=source, line=line)
    images = _find(record, _IMAGES)
    names = _names(images[1]) if images else [None] * (parsed.num_markers if has_parts else 0)
    if no_markers == "auto":
        no_markers = "first" if field == "conversations" else "error"
    bind(parsed, names, no_markers=no_markers)


def _find(record: Any, fields: Sequence[str]) -> tuple[str, Any] | None:
    if not isinstance(record, Mapping):
        return None
    return next(((field, record[field]) for field in fields if record.get(field) is not None), None)


def _list(value: Any, source: str | None, line: int | None) -> list[Any]:
    if not isinstance(value, list):
        raise MarkerError(
            "the prompt is neither text nor messages",
            source=source,
            line=line,
            got=type(value).__name__,
            remedy="write it as one text, or as a list of messages with role and content",
        )
    return value


def _message(item: Any) -> Any:
    """A message of a ShareGPT file (`from`, `value`; an answer may be a number) in the usual form."""
    if isinstance(item, Mapping) and "from" in item and "value" in item:
        value = item["value"]
        content = str(value) if isinstance(value, (int, float)) else value
        return {"role": _ROLES.get(item["from"], str(item["from"])), "content": content}
    return item


def _image_parts(message: Any) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return False
    return any(isinstance(part, Mapping) and part.get("type") in ("image", "image_url") for part in content)


def _names(images: Any) -> list[str | None]:
    """One name, or None, for each image: a list, one image, or a mapping of names to images."""
    if isinstance(images, list):
        return [
            str(image["name"]) if isinstance(image, Mapping) and isinstance(image.get("name"), str) else None
            for image in images
        ]
    if isinstance(images, Mapping) and not {"bytes", "path", "image", "url"} & images.keys():
        return [str(name) for name in images]
    return [None]
