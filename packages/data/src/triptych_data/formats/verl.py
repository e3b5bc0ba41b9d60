"""verl and EasyR1: `prompt` or `problem` with `<image>`, `images`, and `reward_model.ground_truth` or `answer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_data.formats.record import Record, as_answer, listed, require_text, require_turns, without


def matches(row: Mapping[str, Any]) -> bool:
    """Whether the row has this shape."""
    return "problem" in row or ("prompt" in row and isinstance(row.get("reward_model"), Mapping))


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; markers and images must agree, as both trainers demand."""
    prompt = row["problem"] if row.get("problem") is not None else row.get("prompt")
    if isinstance(prompt, (list, tuple)):
        messages = require_turns(prompt, what="prompt")
    else:
        messages = [{"role": "user", "content": require_text(prompt, what="problem")}]
    images, names = listed(row.get("images"))
    reward = row.get("reward_model")
    answer = reward.get("ground_truth") if isinstance(reward, Mapping) else None
    return Record(
        messages=messages,
        images=images,
        names=names,
        answer=as_answer(answer if answer is not None else row.get("answer")),
        extras=without(row, "prompt", "problem", "images", "id"),
    )
