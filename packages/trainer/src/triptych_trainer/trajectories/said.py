"""What the model said in a turn: the message, its calls, and why a call in it cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych_trainer.rewards.completion import REASONING_KEYS, THINK_CLOSE
from triptych_trainer.trajectories.calls import UNREAD, Call, calls_of, why_unread
from triptych_trainer.trajectories.characters import storable
from triptych_trainer.trajectories.live import LiveRollout
from triptych_trainer.trajectories.writer import TurnWriter

__all__ = ["ReadMessage", "take_message"]

ReadMessage = Callable[[TurnWriter, Sequence[int], Sequence[int]], Mapping[str, Any]]
"""From the tokens before a message and its own tokens to the message."""


def take_message(one: LiveRollout, before: Sequence[int], *, read: ReadMessage, tokenizer: Any) -> list[Call]:
    """Add the message that a rollout said last to its messages, and return the calls in it.

    A call that cannot be read is the last of them, and contains the reason. A message that was cut calls nothing.
    """
    text = tokenizer.decode(list(one.turn_ids), skip_special_tokens=False)
    try:
        message = storable(read(one.writer, before, one.turn_ids))
    except RecursionError:
        message = {"role": "assistant", "content": text}
    reason = message.pop(UNREAD, None)
    one.messages.append(message)
    if one.finish != "stop":
        return []
    calls = calls_of(message)
    answered = _behind_reasoning(text, message)
    reason = reason or why_unread(answered, num_calls=len(calls), reads_json=one.writer.mode == "user")
    if reason is None:
        return calls
    one.unread[one.turn] = reason
    return [*calls, Call(name="", arguments={}, unread=reason)]


def _behind_reasoning(text: str, message: Mapping[str, Any]) -> str:
    """The message without its reasoning, which may speak of calls."""
    if any(message.get(key) for key in REASONING_KEYS) and isinstance(message.get("content"), str):
        return str(message["content"])
    return text if message.get("tool_calls") else text.rpartition(THINK_CLOSE)[2]
