"""Read the calls that a model wrote, and do them. A failed call gives a text for the model and a line in the log."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.results import Piece, pieces_of
from triptych_trainer.trajectories.toolbox import Tool

__all__ = ["CALL_CLOSE", "CALL_OPEN", "AsyncLoop", "Call", "Outcome", "Request", "calls_of", "do_calls", "read_calls"]

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(f"{CALL_OPEN}(.*?){CALL_CLOSE}", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call as the model wrote it."""

    name: str
    arguments: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A call, and everything that is needed to do it."""

    call: Call
    tools: Mapping[str, Tool]
    images: RolloutImages
    where: str
    """The sample, the rollout and the turn, for the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of a call, or its failure."""

    name: str
    pieces: tuple[Piece, ...]
    failure: str | None = None
    """The failure as one line for the log; None if the call succeeded."""


def read_calls(text: str) -> list[dict[str, Any]]:
    """The calls of a text, each as JSON between ``<tool_call>`` and ``</tool_call>``, as a message holds them.

    Text in which a call is no JSON object with a name holds none: it is read as an answer.

    >>> read_calls('Closer. <tool_call>{"name": "zoom", "arguments": {"image": 1}}</tool_call>')
    [{'type': 'function', 'function': {'name': 'zoom', 'arguments': {'image': 1}}}]
    """
    found = []
    for body in _CALL.findall(text):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return []
        function = {"name": value["name"], "arguments": value.get("arguments") or {}}
        found.append({"type": "function", "function": function})
    return found


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """The calls in a message of the assistant."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [Call(name=function["name"], arguments=function.get("arguments") or {}) for function in functions]


def do_calls(requests: Sequence[Request], *, loop: AsyncLoop, timeout_seconds: float) -> list[Outcome]:
    """Do the calls and return the outcome of each, in order.

    Plain functions run one after another. Coroutines of all rollouts run side by side; one that takes longer than
    ``timeout_seconds`` is given up.
    """
    found: dict[int, Any] = {}
    waiting: dict[int, Coroutine[Any, Any, Any]] = {}
    for k, request in enumerate(requests):
        try:
            tool, arguments = _bound(request)
            if tool.is_async:
                waiting[k] = tool.call(**arguments)
            else:
                found[k] = tool.call(**arguments)
        except Exception as error:  # whatever a tool raises is an answer for the model
            found[k] = error
    if waiting:
        found.update(zip(waiting, loop.gather(list(waiting.values()), timeout_seconds=timeout_seconds), strict=True))
    return [_outcome(request, found[k]) for k, request in enumerate(requests)]


def _bound(request: Request) -> tuple[Tool, dict[str, Any]]:
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


def _outcome(request: Request, result: Any) -> Outcome:
    name = request.call.name
    if isinstance(result, Exception):
        reason = " ".join(str(result).split()) or type(result).__name__
        failure = f"{request.where}: {name} failed, and the model was told: {type(result).__name__}: {reason}"
        return Outcome(name=name, pieces=(str({"error": str(result) or type(result).__name__}),), failure=failure)
    return Outcome(name=name, pieces=tuple(pieces_of(result, owner=f"{request.where}: {name}")))


class AsyncLoop:
    """An event loop on a thread of its own, so that tools can be awaited wherever the trainer runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def gather(self, calls: Sequence[Coroutine[Any, Any, Any]], *, timeout_seconds: float) -> list[Any]:
        """Await all calls at the same time; the exception of a call is returned in the place of its result."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="triptych-tools", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_gathered(calls, timeout_seconds), self._loop).result()


async def _gathered(calls: Sequence[Coroutine[Any, Any, Any]], timeout_seconds: float) -> list[Any]:
    async def one(call: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await asyncio.wait_for(call, timeout_seconds)
        except TimeoutError as error:
            return TimeoutError(str(error) or f"no answer within {timeout_seconds:g} seconds")

    return await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
