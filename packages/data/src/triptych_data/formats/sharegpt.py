"""LLaMA-Factory sharegpt: `conversations` of {from, value} or `messages` of {role, content}, and `images`.

Other column and tag names come from a `dataset_info.json` (see `Columns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych_data.formats.record import (
    Record,
    RowError,
    as_answer,
    listed,
    plain_text,
    require_turns,
    split_answer,
    without,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of columns and tags, with LLaMA-Factory's own defaults."""

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


OPENAI_COLUMNS = Columns(
    messages="messages", role="role", content="content", user="user", assistant="assistant", function="function"
)


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape."""
    return "messages" in row or ("conversations" in row and "images" in row)


def read(row: Mapping[str, Any], *, columns: Columns | None = None) -> Record:
    """Read one row; the number of markers over the prompt's turns must equal the number of images."""
    if columns is None:
        columns = _guessed(row)
    turns = require_turns(row.get(columns.messages), what=columns.messages)
    messages, answer = split_answer([_message(turn, columns) for turn in turns])
    system = row.get(columns.system)
    if isinstance(system, str) and system:
        messages = [{"role": "system", "content": system}, *messages]
    images, names = listed(row.get(columns.images))
    reference = next((row[name] for name in ("answer", "solution") if row.get(name) is not None), answer)
    return Record(
        messages=messages,
        images=images,
        names=names,
        answer=as_answer(reference),
        extras=without(row, columns.messages, columns.images, columns.system, "id"),
    )


def _guessed(row: Mapping[str, Any]) -> Columns:
    name = "messages" if "messages" in row else "conversations"
    turns = require_turns(row.get(name), what=name)
    if "role" in turns[0]:
        return OPENAI_COLUMNS if name == "messages" else Columns(**{**_FIELDS_OPENAI, "messages": name})
    return Columns(messages=name)


_FIELDS_OPENAI = {"role": "role", "content": "content", "user": "user", "assistant": "assistant"}


def _message(turn: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    role, content = turn.get(columns.role), turn.get(columns.content)
    roles = {
        columns.user: "user",
        columns.assistant: "assistant",
        columns.system_role: "system",
        columns.observation: "tool",
        columns.function: "assistant",
    }
    if role not in roles:
        raise RowError(
            f"expected {columns.role} to be one of {', '.join(roles)}, got {role!r}",
            remedy="correct the row or name the tags in dataset_info.json",
        )
    if not isinstance(content, (list, tuple)):
        content = plain_text(content)
    return {"role": roles[role], "content": content}
