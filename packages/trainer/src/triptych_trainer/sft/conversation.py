"""A row as one whole conversation, whose last turn is the assistant's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from triptych_data import DataError, Example
from triptych_data.formats.columns import CONVERSATIONS, QUESTIONS, listed_text
from triptych_parser import Text, Turn

__all__ = ["ASSISTANT", "conversation", "refused_conversation", "until"]

ASSISTANT = "assistant"
WEIGHTS = ("weight", "loss", "train", "loss_weight", "loss_scale", "trainable", "training")
"""Keys of a message by which other trainers leave a turn out of the loss."""


def conversation(example: Example) -> Example:
    """Return the example with what the assistant replies as the last turn of its prompt.

    Raises:
        DataError: the row has no text to train on, or says that a turn counts differently.
    """
    if not (example.reply or "").strip():
        raise refused_conversation(
            example,
            "expected a text of the assistant to train on, got none after the prompt",
            "end the conversation with a turn of the assistant, or give one text as `completion`, `response`, "
            "`solution` or `answer`",
        )
    for place, key, value in _weights(example.columns):
        raise refused_conversation(
            example,
            f"expected every turn of the assistant to count in the loss, got {key} {value!r} in {place}",
            f"remove {key}, or split the row so that each turn to train on ends a row of its own",
        )
    for place, key in _beside_the_last_text(example.columns):
        inside = ", between <think> and </think>" if key == "reasoning_content" else ""
        raise refused_conversation(
            example,
            f"expected all that the assistant says last in its content, got {key} in {place}",
            f"write it into the content{inside}, or remove {key}",
        )
    assert example.reply is not None
    last = Turn(role=ASSISTANT, segments=(Text(text=example.reply),), raw=(example.reply,))
    return _with_turns(example, (*example.prompt.prompt.turns, last))


def until(example: Example, turn: int) -> Example:
    """Return the conversation before one of its turns; its images stay, whether a turn shows them or not."""
    return _with_turns(example, example.prompt.prompt.turns[:turn])


def refused_conversation(example: Example, reason: str, remedy: str) -> DataError:
    """Return the refusal of a row that cannot be trained on."""
    name = None if example.id == example.source else example.id
    return DataError(reason, source=example.source, id=name, remedy=remedy, kind="sft")


def _with_turns(example: Example, turns: tuple[Turn, ...]) -> Example:
    prompt = replace(example.prompt.prompt, turns=turns)
    order = example.prompt.image_order[: prompt.num_markers]
    return replace(example, prompt=replace(example.prompt, prompt=prompt, image_order=order))


def _beside_the_last_text(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the last message of a row says next to its content, which would be left out: (place, key)."""
    for name in (*CONVERSATIONS, *QUESTIONS, "completion"):
        turns = listed_text(columns.get(name))
        last = turns[-1] if isinstance(turns, (list, tuple)) and turns else None
        message = last if isinstance(last, Mapping) else {}
        for key in ("reasoning_content", "recipient"):
            if message.get(key) and message[key] != "all":
                yield f"{name}[{len(turns) - 1}]", key  # type: ignore[arg-type]


def _weights(columns: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The messages of a row that other trainers would leave out of the loss, or weigh: (place, key, value)."""
    for name in (*CONVERSATIONS, *QUESTIONS):
        turns = listed_text(columns.get(name))
        for number, turn in enumerate(turns if isinstance(turns, (list, tuple)) else ()):
            for key in WEIGHTS if isinstance(turn, Mapping) else ():
                if turn.get(key) is not None and turn[key] != 1:  # True is 1 as well
                    yield f"{name}[{number}]", key, turn[key]
