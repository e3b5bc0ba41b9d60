"""Pieces of rows that are refused, and the check that the remedy which the message names works on that very row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from triptych_data import DataError, read_examples

HUMAN, GPT = {"from": "human", "value": "Colour?"}, {"from": "gpt", "value": "red"}
SYSTEM = {"from": "system", "value": "Be brief."}
USER, ASSISTANT = {"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "red"}
TALK = {"conversations": [HUMAN, GPT]}
ASK = {"problem": "Colour?", "answer": "red"}
PNG = {"path": "0.png"}


def part(**keys: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [keys, {"type": "text", "text": "Colour?"}]}, ASSISTANT]}


Refused = dict[str, tuple[dict[str, Any], str, dict[str, Any]]]
"""By name: the row, what the message says, the same row after the named remedy."""


def check_refused(
    write_jsonl: Callable[..., Path], row: dict[str, Any], message: str, repaired: dict[str, Any]
) -> None:
    path = write_jsonl([{"id": 7, **row}])
    with pytest.raises(DataError, match=message) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}:1 (id 7): ")
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    (example,) = read_examples(write_jsonl([repaired]))
    assert example.prompt.pieces()[0]
