"""Messages read by the name of who speaks, never by their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.formats.columns import is_change, is_empty, listed_text, may_be_input
from triptych_data.formats.entry import LIMITS
from triptych_data.formats.media import FRAMES, media_kind
from triptych_data.formats.record import RowError, shown

ROLES = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
    "observation": "tool",
    "observations": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function": "tool",
    "tool_call": "assistant",
    "function_call": "assistant",
}
CALLS = "tool_calls"
# What a chat template may write, and of whose messages; `describe` looks whether it does.
_PASSED = {
    "name": ("user", "system", "assistant", "tool"),
    "tool_call_id": ("tool",),
    "reasoning_content": ("assistant",),
    "recipient": ("assistant",),
    CALLS: ("assistant",),
}
Turn = dict[str, Any]


def is_turns(value: object) -> bool:
    """Return whether a value is a list of messages, or text that writes one."""
    value = listed_text(value)
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def read_turns(value: object, *, what: str) -> list[Turn]:
    """Read turns of {role, content} from a list of {role, content} or {from, value}, or from text that writes such a
    list.

    The content is as it was: text, parts, or, in an answer, a number or a list of boxes.
    """
    turns = listed_text(value)
    if not isinstance(turns, (list, tuple)) or not is_turns(turns):
        raise RowError(
            f"expected {what} to be a list of messages, got {_no_turns(turns)}",
            remedy='write each message as {"role": "user", "content": ...}',
        )
    return [_turn(turn, f"{what}[{number}]") for number, turn in enumerate(turns)]


def _no_turns(value: object) -> str:
    """What a value is that is no list of messages, with its first entry that is none."""
    if not isinstance(value, (list, tuple)):
        return type(value).__name__
    others = [(number, entry) for number, entry in enumerate(value) if not isinstance(entry, Mapping)]
    return f"{shown(others[0][1])} as entry {others[0][0] + 1} of {len(value)}" if others else "an empty list"


def check_order(turns: Sequence[Turn], *, what: str) -> None:
    """Raise RowError if nobody but the system speaks, or if somebody else than the user speaks first."""
    spoken = [turn["role"] for turn in turns if turn["role"] != "system"]
    if "user" not in spoken:
        raise RowError(
            f"expected a turn by the user in {what}, got {' and '.join(sorted({t['role'] for t in turns}))} alone",
            remedy='write the question as a turn by the user, {"role": "user", "content": ...}',
        )
    if spoken[0] != "user":
        raise RowError(
            f"expected {what} to begin with the user, got a turn by the {spoken[0]} first",
            remedy="put the user's turn first, or remove what comes before it",
        )


def check_end(turns: Sequence[Turn], *, what: str, answered: bool, is_split: bool) -> None:
    """Raise RowError if a prompt, whose answer has left it, does not end with the user or a tool's result.

    A conversation of several turns has an answer, in its last turn or in a column: without one its last turn would be
    taken for the question, whoever wrote it. `is_split` says that the last turn was the answer and has left the turns.
    """
    last = turns[-1]["role"]
    if last not in ("user", "tool"):
        raise RowError(
            f"expected the prompt in {what} to end with the user, got a turn by the {last} "
            f"{'before the answer' if is_split else 'last'}",
            remedy="write that turn and the answer as one, or remove it"
            if is_split and last == "assistant"
            else "remove that turn, or give its text as the column answer",
        )
    if what in ("conversations", "conversation") and len(turns) > 1 and not answered:
        raise RowError(
            f"expected {what} of several turns to end with an answer by the assistant, got none",
            remedy="add the assistant's turn, or give the answer as the column answer",
        )


def with_system(turns: list[Turn], system: Mapping[str, Any], *, what: str) -> list[Turn]:
    """Return the turns with the text of a system column first; raise RowError if it contradicts a system turn."""
    for name, text in system.items():
        if not isinstance(text, str):
            raise RowError(f"expected {name} to be text, got {type(text).__name__}", remedy="correct the row")
        if turns[0]["role"] != "system":
            turns = [{"role": "system", "content": text}, *turns]
        elif turns[0]["content"] != text:
            raise RowError(
                f"expected one system text, got one in {what} and another in the column {name}",
                remedy=f"remove the column {name} or the other text",
            )
    return turns


def _turn(turn: Mapping[str, Any], place: str) -> Turn:
    role_key, role = _one_of(turn, ("role", "from"), place)
    has_calls = not is_empty(turn.get(CALLS))
    silent = has_calls and turn.get("content") is None and turn.get("value") is None
    content_key, content = ("content", None) if silent else _one_of(turn, ("content", "value"), place)
    known = ROLES.get(role) if isinstance(role, str) else None
    known = known or ROLES.get(str(role).strip().lower().replace("-", "_"))
    if known is None:
        raise RowError(
            f"expected {role_key} to be one of {', '.join(ROLES)}, got {shown(role)} in {place}",
            remedy="correct the row",
            in_file=", or name the tags in dataset_info.json",
        )
    _check_keys(turn, known, place)
    if content is None and not has_calls:
        raise RowError(
            f"expected {place}.{content_key} to be text or parts, got null", remedy="write the text, or remove the turn"
        )
    return {"role": known, "content": content, **{key: turn[key] for key in _PASSED if not is_empty(turn.get(key))}}


def _check_calls(calls: object, place: str) -> None:
    """RowError if the calls of a message are not what chat templates write."""
    for number, call in enumerate(calls) if isinstance(calls, (list, tuple)) else [(0, calls)]:
        inner = call.get("function") or call if isinstance(call, Mapping) else None
        named = inner if isinstance(inner, Mapping) and isinstance(inner.get("name"), str) else None
        if named is None or not isinstance(named.get("arguments") or {}, (Mapping, str)):
            raise RowError(
                f"expected {place}.{CALLS} to be a list of calls, got {shown(call)} as call {number + 1}",
                remedy='write {"type": "function", "function": {"name": ..., "arguments": {...}}}',
            )


def _one_of(turn: Mapping[str, Any], names: tuple[str, str], place: str) -> tuple[str, Any]:
    """(name, value) of the one that is there; RowError where both are and differ."""
    given = [name for name in names if turn.get(name) is not None]
    if len(given) == 1:
        return given[0], turn[given[0]]
    first, second = (ROLES.get(str(turn.get(name)), turn.get(name)) for name in names)
    if len(given) == 2 and first != second:
        raise RowError(
            f"expected one of {names[0]} and {names[1]} in {place}, got both with different values",
            remedy="remove one of them",
        )
    if not given and not any(name in turn for name in names):
        raise RowError(
            f"expected {place} to have the keys role and content or from and value, got {', '.join(map(str, turn))}",
            remedy="rename its keys",
            in_file=", or name them in dataset_info.json",
        )
    name = given[0] if given else next(name for name in names if name in turn)
    return name, turn.get(name)


def _check_keys(turn: Mapping[str, Any], role: str, place: str) -> None:
    for key, value in turn.items():
        if key in ("role", "from", "content", "value") or is_empty(value):
            continue
        if key in _PASSED:
            _check_passed(key, value, role, place)
            continue
        media = media_kind(key)
        if media is not None and not isinstance(value, (bool, int, float)):
            raise RowError(f"expected text and images, got {media} as {place}.{key}", remedy=FRAMES[media])
        if may_be_input(key, value):
            raise RowError(
                f"expected {place} to have only a role and its content, got {key!r} as well, which is not read",
                remedy=_remedy(key, role),
            )


def _check_passed(key: str, value: Any, role: str, place: str) -> None:
    if role not in _PASSED[key]:
        raise RowError(
            f"expected {key} in a message by the {' or '.join(_PASSED[key])} alone, got it in {place} by the {role}",
            remedy="write it into the content as text, or remove it",
        )
    if key == CALLS:
        _check_calls(value, place)
    elif not isinstance(value, str):
        raise RowError(
            f"expected {place}.{key} to be text, got {type(value).__name__}", remedy="write it as text, or remove it"
        )


def _remedy(key: str, role: str) -> str:
    if key.startswith("image") and not is_change(key):
        return "put it into the column images, with an <image> where it belongs"
    if key in LIMITS:
        return 'give it with the image, as {"path": ..., "max_pixels": ...} in the column images'
    if role == "assistant":
        return f"write it into the content as text, or as the column reward_{key} where only rewards need it"
    return "write it into the content as text, or remove it"
