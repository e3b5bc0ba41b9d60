"""TRL conversational: `prompt` as messages (text or content parts) or text, `images` or `image`, further columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.openai import extract_images
from triptych_data.formats.record import Record, RowError, as_answer, listed, plain_text, require_turns, without

_ANSWER_COLUMNS = ("answer", "solution", "ground_truth")


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape."""
    return "prompt" in row


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, as TRL itself places them."""
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    messages = require_turns(prompt, what="prompt")
    if row.get("images") is not None and row.get("image") is not None:
        raise RowError("expected images or image, got both", remedy="remove one of the two columns")
    images, names = listed(row.get("images") if row.get("images") is not None else row.get("image"))
    messages, inline = extract_images(messages)
    if inline and images:
        raise RowError(
            f"expected images in a column or in the content parts, got {len(images)} and {len(inline)}",
            remedy="keep one of the two",
        )
    answer = next((row[column] for column in _ANSWER_COLUMNS if row.get(column) is not None), None)
    if answer is None:
        answer = _completion(row.get("completion"))
    return Record(
        messages=messages,
        images=inline or images,
        names=[None] * len(inline) if inline else names,
        answer=as_answer(answer),
        extras=without(row, "prompt", "images", "image", "id"),
        no_markers="first",
    )


def _completion(completion: object) -> object:
    if isinstance(completion, list) and completion and isinstance(completion[-1], Mapping):
        return plain_text(completion[-1].get("content"))
    return completion
