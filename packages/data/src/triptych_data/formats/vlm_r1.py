"""VLM-R1: `image` (a path or a list of them) and `conversations` of a question and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.record import Record, RowError, as_answer, listed, require_text, require_turns, without


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape."""
    return "conversations" in row and "images" not in row


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, in order."""
    turns = require_turns(row.get("conversations"), what="conversations")
    if len(turns) > 2:
        raise RowError(
            f"expected conversations of a question and an answer, got {len(turns)} turns",
            remedy='keep the first question and its answer, or read the file with format="sharegpt"',
        )
    question = require_text(turns[0].get("value"), what="conversations[0].value")
    images, names = listed(row.get("image"))
    return Record(
        messages=[{"role": "user", "content": question}],
        images=images,
        names=names,
        answer=as_answer(turns[1].get("value")) if len(turns) == 2 else None,
        extras=without(row, "conversations", "image", "id"),
        no_markers="first",
    )
