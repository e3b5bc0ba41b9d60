"""Whether a chat template writes the calls of the assistant's messages: many leave them out without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from triptych_parser.bind import BoundPrompt
from triptych_parser.place import place_in

__all__ = ["CALLS", "check_calls"]

CALLS = "tool_calls"
_OPEN, _CLOSE = "\ue000", "\ue001"
Messages = Sequence[Mapping[str, Any]]


def check_calls(bound: BoundPrompt, messages: Messages, *, write: Callable[[list[dict[str, Any]]], str]) -> None:
    """Write the messages once more with stand-ins for the names and texts of their calls, and look for all of them.

    Raises MarkerError for the first message whose calls the template does not write as a whole.
    """
    if not any(message.get(CALLS) for message in messages):
        return
    numbers = count()
    marked = [_with_stand_ins(message, lambda: f"{_OPEN}{next(numbers)}{_CLOSE}") for message in messages]
    written = write([message for message, _ in marked]).replace("\\ue000", _OPEN).replace("\\ue001", _CLOSE)
    for index, (_, stand_ins) in enumerate(marked):
        if not all(stand_in in written for stand_in in stand_ins):
            raise place_in(bound.prompt, index).error(
                f"the chat template does not write all names and arguments of its {CALLS}",
                remedy="write the calls into the content of the message as text, or pass a chat_template that writes "
                f"message['{CALLS}'] with the names and arguments of all calls",
            )


def _with_stand_ins(message: Mapping[str, Any], new: Callable[[], str]) -> tuple[dict[str, Any], list[str]]:
    """(the message with a stand-in for each name and each text of an argument, the stand-ins)."""
    if not message.get(CALLS):
        return dict(message), []
    used: list[str] = []

    def stand_in() -> str:
        used.append(new())
        return used[-1]

    calls = []
    for call in message[CALLS]:
        inner = call.get("function") or call
        arguments = inner.get("arguments")
        changed = {**inner, "name": stand_in()}
        if isinstance(arguments, str):
            changed["arguments"] = f'{{"a": "{stand_in()}"}}'  # some templates read JSON
        elif arguments is not None:
            changed["arguments"] = _texts_replaced(arguments, stand_in)
        calls.append({**call, "function": changed} if call.get("function") else changed)
    return {**message, CALLS: calls}, used


def _texts_replaced(value: Any, stand_in: Callable[[], str]) -> Any:
    if isinstance(value, str):
        return stand_in()
    if isinstance(value, Mapping):
        return {key: _texts_replaced(item, stand_in) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts_replaced(item, stand_in) for item in value]
    return value
