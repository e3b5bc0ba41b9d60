"""Read the calls that a model wrote, and do them. A failed call gives a text for the model and a line in the log."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.random_states import OF_SAMPLING, kept_random_numbers
from triptych_trainer.trajectories.async_loop import AsyncLoop
from triptych_trainer.trajectories.characters import whole_characters
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.results import Piece, UnreadablePictureError, pieces_of
from triptych_trainer.trajectories.toolbox import Tool
from triptych_trainer.trajectories.waiting import holding, watched

__all__ = [
    "CALL_BEGINNINGS",
    "CALL_CLOSE",
    "CALL_OPEN",
    "UNREAD",
    "Call",
    "CallRequest",
    "Outcome",
    "calls_of",
    "do_calls",
    "do_messages",
    "once_each",
    "read_calls",
    "why_unread",
    "without_calls",
]

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
CALL_BEGINNINGS = (CALL_OPEN, "<|tool_call_start|>", "<|tool_call>", "[TOOL_CALLS]", "<function=")
"""With these, models begin a call, each family in its own form."""
UNREAD = "unread"
"""The key under which a message that was read says why its calls were not."""
_CALL = re.compile(f"{CALL_OPEN}(.*?){CALL_CLOSE}", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Contains one call as the model wrote it."""

    name: str
    """Empty for a call that cannot be read."""
    arguments: Any
    unread: str | None = None
    """Why it cannot be read; None for a call that can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRequest:
    """Contains a call, and everything that is needed to do it."""

    call: Call
    tools: Mapping[str, Tool]
    images: RolloutImages
    where: str
    """The sample, the rollout and the turn, for the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Contains the result of a call, or its failure."""

    name: str
    """The name of the tool, or ``unknown`` for a call that cannot be read."""
    pieces: tuple[Piece, ...]
    failure: str | None = None
    """The failure as one line for the log; None if the call succeeded."""


def read_calls(text: str) -> list[dict[str, Any]]:
    """Return the calls of a text, each as JSON between ``<tool_call>`` and ``</tool_call>``, in the form of messages.

    From text in which a call is no JSON object with a name and arguments, and nothing else, no call is read. So no call
    is done with other arguments than the model wrote; `why_unread` says what is wrong with it.

    >>> read_calls('Closer. <tool_call>{"name": "zoom", "arguments": {"image": 1}}</tool_call>')
    [{'type': 'function', 'function': {'name': 'zoom', 'arguments': {'image': 1}}}]
    """
    found = []
    for body in _CALL.findall(text):
        try:
            value = json.loads(body, object_pairs_hook=once_each)
        except (ValueError, RecursionError):
            return []
        if _why_no_form(value) is not None:
            return []
        found.append({"type": "function", "function": {"name": value["name"], "arguments": _arguments(value)}})
    return found


def _arguments(function: Mapping[str, Any]) -> Any:
    """The arguments of a call; none are an empty object, and anything else is what the model wrote."""
    given = function.get("arguments")
    return {} if given is None else given


def without_calls(text: str) -> str:
    """Return what a message says before, between and behind its calls.

    >>> without_calls('Closer. <tool_call>{"name": "zoom"}</tool_call> Then I read.')
    'Closer.  Then I read.'
    """
    return _CALL.sub("", text).strip()


def why_unread(text: str, *, num_calls: int, reads_json: bool) -> str | None:
    """Return why a call in a message was not read, or None if it begins no more than ``num_calls`` calls and ends none.

    >>> why_unread('<tool_call>{"name": "zoom"', num_calls=0, reads_json=True)
    'its </tool_call> is missing'
    >>> why_unread('box 3</tool_call>', num_calls=0, reads_json=True)
    'a </tool_call> has no <tool_call> before it'
    """
    if num_calls == 0 and CALL_CLOSE in text and CALL_OPEN not in text:
        return f"a {CALL_CLOSE} has no {CALL_OPEN} before it"
    begun = next((opening for opening in CALL_BEGINNINGS if opening in text), None)
    if begun is None or text.count(begun) <= num_calls:
        return None
    if begun == CALL_OPEN and reads_json:
        for after in text.split(CALL_OPEN)[1:]:
            body, end, _ = after.partition(CALL_CLOSE)
            reason = _why_no_call(body) if end else f"its {CALL_CLOSE} is missing"
            if reason is not None:
                return reason
    return f"what follows {begun} does not have the form that the chat template gives to calls"


def _why_no_call(body: str) -> str | None:
    try:
        value = json.loads(body, object_pairs_hook=once_each)
    except RecursionError:
        return "it is nested too deeply"
    except json.JSONDecodeError as error:
        return f"it is not valid JSON ({error})"
    except ValueError as error:
        return str(error)
    return _why_no_form(value)


def _why_no_form(value: Any) -> str | None:
    """Why a JSON value is no call, or None if it is one."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return 'it is not a JSON object with the "name" of a tool'
    other = next((key for key in value if key not in ("name", "arguments")), None)
    return None if other is None else f'it has the key {other!r}; a call has only "name" and "arguments"'


def once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a mapping.

    Raises:
        ValueError: a key is there twice; JSON would keep its last value in silence.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is in it twice")
        found[key] = value
    return found


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """Return the calls in a message of the assistant."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [Call(name=function["name"], arguments=_arguments(function)) for function in functions]


def do_messages(
    messages: Sequence[Sequence[CallRequest]],
    *,
    is_over: Sequence[Callable[[], bool] | None],
    do: Callable[[Sequence[CallRequest]], Sequence[Outcome]],
) -> list[list[Outcome]]:
    """Do the calls of a message of each rollout; return their outcomes, without those that were not done.

    ``is_over[k]`` says whether the environment of rollout k has ended it, and is None without an environment. The calls
    of an environment are done in their order, and none after its end; all other calls of a message are done at once.
    """
    found: list[list[Outcome]] = [[] for _ in messages]
    left = {k: list(requests) for k, requests in enumerate(messages)}
    while left:
        now = {k: requests if is_over[k] is None else requests[:1] for k, requests in left.items()}
        with kept_random_numbers("a tool", names=OF_SAMPLING):
            outcomes = iter(do([request for requests in now.values() for request in requests]))
        for k, requests in now.items():
            found[k] += [next(outcomes) for _ in requests]
        left = {k: requests[len(now[k]) :] for k, requests in left.items()}
        left = {k: requests for k, requests in left.items() if requests and not _ended(is_over[k])}
    return found


def _ended(is_over: Callable[[], bool] | None) -> bool:
    return is_over is not None and is_over()


def do_calls(
    requests: Sequence[CallRequest],
    *,
    loop: AsyncLoop,
    timeout_seconds: float,
    say: Callable[[str], object] = print,
) -> list[Outcome]:
    """Do the calls and return the outcome of each, in order.

    A call that cannot be read calls nothing, and fails with the reason. Plain functions run one after another.
    Coroutines of all rollouts run side by side; one that takes longer than ``timeout_seconds`` is given up. A plain
    function, or a coroutine that blocks its thread, cannot be given up: ``say`` is told that it still runs.
    """
    found: dict[int, Any] = {}
    waiting: dict[int, Awaitable[Any]] = {}
    for k, request in enumerate(requests):
        if request.call.unread is not None:
            continue
        try:
            tool, arguments = _bound(request)
            with watched(_named(request), seconds=timeout_seconds, say=say):
                result = tool.call(**arguments)
            if inspect.isawaitable(result):
                waiting[k] = result
            else:
                found[k] = result
        except (Exception, SystemExit) as error:  # whatever a tool raises is an answer for the model
            found[k] = error
    if waiting:
        asked = list(waiting)
        results = loop.gather(
            list(waiting.values()),
            timeout_seconds=timeout_seconds,
            blocked=lambda k: say(holding(_named(requests[asked[k]]))),
        )
        found.update(zip(asked, results, strict=True))
    return [
        _outcome(request, found[k]) if k in found else _unread_outcome(request) for k, request in enumerate(requests)
    ]


def _named(request: CallRequest) -> str:
    return f"{request.where}: {request.call.name}"


def _bound(request: CallRequest) -> tuple[Tool, dict[str, Any]]:
    call = request.call
    tool = request.tools.get(call.name)
    if tool is None:
        raise LookupError(f"there is no tool {call.name!r}; the tools are {', '.join(request.tools)}")
    if not isinstance(call.arguments, Mapping):
        raise TypeError(f"the arguments of {call.name} are no JSON object")
    arguments = dict(call.arguments)
    if tool.images_as is not None:
        if tool.images_as in arguments:
            raise TypeError(f"{call.name} has no parameter {tool.images_as!r}")
        arguments[tool.images_as] = request.images
    return tool, arguments


def _outcome(request: CallRequest, result: Any) -> Outcome:
    name = request.call.name
    if not isinstance(result, BaseException):
        try:
            return Outcome(name=name, pieces=tuple(pieces_of(result, owner=f"{request.where}: {name}")))
        except UnreadablePictureError as error:
            failure = f"{error}; the model was told"
            return Outcome(name=name, pieces=(str({"error": f"an image of {name} cannot be read"}),), failure=failure)
        except UsageError:
            raise
        except Exception as error:  # the `__str__` of a result is code of the tool, too
            result = error
    told = _words_of(result)
    reason = whole_characters(" ".join(told.split())) or type(result).__name__
    failure = f"{request.where}: {name} failed, and the model was told: {type(result).__name__}: {reason}"
    return Outcome(name=name, pieces=(str({"error": told}),), failure=failure)


def _unread_outcome(request: CallRequest) -> Outcome:
    told = f"this call could not be read: {request.call.unread}"
    return Outcome(name="unknown", pieces=(str({"error": told}),), failure=f"{request.where}: {told}")


def _words_of(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # an exception whose own text cannot be made
        return type(error).__name__
