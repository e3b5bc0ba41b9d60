"""LLaMA-Factory's `dataset_info.json`: what the columns and tags of a sharegpt file are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.formats.columns import is_empty
from triptych_data.formats.record import RowError, shown
from triptych_data.formats.turns import is_turns
from triptych_data.rows.base import SourceRow

_NAME = "dataset_info.json"
_TAG_ROLES = {
    "user": "user",
    "assistant": "assistant",
    "system_role": "system",
    "observation": "tool",
    "function": "assistant",
}
_COLUMNS = {"messages": "messages", "images": "images", "system": "system"}
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system_role",
    "observation_tag": "observation",
    "function_tag": "function",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Contains the names of columns and tags, with LLaMA-Factory's own defaults."""

    messages: str = "conversations"
    images: str = "images"
    system: str = "system"
    role: str = "from"
    content: str = "value"
    user: str = "human"
    assistant: str = "gpt"
    system_role: str = "system"
    observation: str = "observation"
    function: str = "function_call"


def renamed(row: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return the row under the names that the sharegpt format has by itself: `messages` of {role, content}, and
    `images`.

    RowError where a column that is read for another one hides it.
    """
    new = {names.messages: "messages", names.images: "images", names.system: "system"}
    if is_empty(row.get(names.messages)) and any(is_turns(row.get(name)) for name in ("messages", "conversations")):
        return dict(row)  # the file says otherwise than the row, which reads by itself
    for old, wanted in new.items():
        if old != wanted and not is_empty(row.get(wanted)) and not is_empty(row.get(old)):
            raise RowError(
                f"expected {wanted} in the column {old}, as dataset_info.json says, got a column {wanted} as well",
                remedy=f"remove the column {wanted}, or name it in dataset_info.json",
            )
    kept = {name: value for name, value in row.items() if name not in new and name not in new.values()}
    found = {wanted: row.get(old) for old, wanted in new.items() if old in row}
    turns = found.get("messages")
    if isinstance(turns, (list, tuple)) and is_turns(turns):
        found["messages"] = [_turn(turn, names) for turn in turns]
    return {**found, "images": found.get("images"), **kept}


def _turn(turn: Mapping[str, Any], names: Names) -> dict[str, Any]:
    roles = {getattr(names, field): role for field, role in _TAG_ROLES.items()}
    role = turn.get(names.role)
    if role not in roles:
        raise RowError(
            f"expected {names.role} to be one of {', '.join(roles)}, got {shown(role)}",
            remedy="correct the row or name the tags in dataset_info.json",
        )
    rest = {key: value for key, value in turn.items() if key not in (names.role, names.content)}
    return {"role": roles[role], "content": turn.get(names.content), **rest}


class ColumnNames:
    """Looks up, once per file, the entry of `dataset_info.json` that names it."""

    def __init__(self, dataset_info: Path | None = None) -> None:
        self._dataset_info = dataset_info
        self._known: dict[str, Names | None] = {}

    def __call__(self, row: SourceRow) -> Names | None:
        """The columns of the row's file; None where nothing is said about it."""
        if row.file not in self._known:
            info = self._dataset_info if self._dataset_info is not None else row.folder / _NAME
            self._known[row.file] = columns_in(info, file=row.file) if info.is_file() else None
        return self._known[row.file]


def dataset_info_files(files: Sequence[Path], dataset_info: Path | None = None) -> list[Path]:
    """Return the files that say what the columns of these data files are called: the file that was named, or else those
    next to the data.
    """
    beside = {file.parent / _NAME for file in files} if dataset_info is None else {dataset_info}
    return sorted(path for path in beside if path.is_file())


def columns_in(dataset_info: Path, *, file: str) -> Names | None:
    """Return the columns that `dataset_info` gives for a file of sharegpt formatting, or None if it names none."""
    try:
        entries = json.loads(dataset_info.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        source = f"{dataset_info}:{getattr(error, 'lineno', 1)}"
        raise DataError(f"not valid JSON ({error})", source=source, remedy="correct the file", kind="json") from error
    if not isinstance(entries, Mapping):
        return None
    for entry in entries.values():
        if isinstance(entry, Mapping) and _names(entry, dataset_info, file):
            return _columns(entry) if entry.get("formatting") == "sharegpt" else None
    return None


def _names(entry: Mapping[str, Any], dataset_info: Path, file: str) -> bool:
    name = entry.get("file_name")
    return isinstance(name, str) and (dataset_info.parent / name).resolve() == Path(file).resolve()


def _columns(entry: Mapping[str, Any]) -> Names:
    columns, tags = entry.get("columns") or {}, entry.get("tags") or {}
    given = {field: columns[name] for name, field in _COLUMNS.items() if isinstance(columns.get(name), str)}
    given |= {field: tags[name] for name, field in _TAGS.items() if isinstance(tags.get(name), str)}
    return Names(**given)
